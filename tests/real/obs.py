"""
A folder with the settings of OBS, prepared as its dialogs write them.
"""

from __future__ import annotations

import json
from pathlib import Path

_WIDTH, _HEIGHT = 640, 360
_GLOBAL = """\
[General]
FirstRun=true
InfoIncrement=99
EnableAutoUpdates=false

[Basic]
Profile=live
ProfileDir=live
SceneCollection=live
SceneCollectionFile=live

[BasicWindow]
PreviewEnabled=false
"""
_PROFILE = f"""\
[General]
Name=live

[Video]
BaseCX={_WIDTH}
BaseCY={_HEIGHT}
OutputCX=320
OutputCY=180
FPSType=0
FPSCommon=30

[Output]
Mode=Simple
Reconnect=true
RetryDelay=1
MaxRetries=20

[SimpleOutput]
StreamEncoder=x264
UseAdvanced=true
Preset=ultrafast
VBitrate=500
ABitrate=96
x264Settings=keyint=30 bframes=0
"""
_ITEM = {
    "name": "Color",
    "id": 1,
    "visible": True,
    "pos": {"x": 0.0, "y": 0.0},
    "scale": {"x": 1.0, "y": 1.0},
    "rot": 0.0,
    "align": 5,
    "bounds_type": 0,
    "bounds_align": 0,
    "bounds": {"x": 0.0, "y": 0.0},
    **dict.fromkeys(("crop_left", "crop_top", "crop_right", "crop_bottom"), 0),
}
_SCENES = {
    "name": "live",
    "current_scene": "Scene",
    "current_program_scene": "Scene",
    "scene_order": [{"name": "Scene"}],
    "sources": [
        {
            "name": "Color",
            "id": "color_source_v3",
            "versioned_id": "color_source_v3",
            "settings": {"color": 0xFF0000FF, "width": _WIDTH, "height": _HEIGHT},
            "enabled": True,
        },
        {
            "name": "Scene",
            "id": "scene",
            "versioned_id": "scene",
            "settings": {"id_counter": 1, "custom_size": False, "items": [_ITEM]},
            "enabled": True,
        },
    ],
}


def write_settings(home: Path, server: str, key: str) -> dict[str, str]:
    """
    Write a profile and a scene with a red picture, and return the environment that uses them.

    Args:
        home: a folder.
        server: the field *Server* of the settings.
        key: the field *Stream Key*.
    """
    basic = home / ".config" / "obs-studio" / "basic"
    profile, scenes, runtime = basic / "profiles" / "live", basic / "scenes", home / "run"
    for folder in (profile, scenes):
        folder.mkdir(parents=True)
    runtime.mkdir(mode=0o700)
    (basic.parent / "global.ini").write_text(_GLOBAL)
    (profile / "basic.ini").write_text(_PROFILE)
    service = {"type": "rtmp_custom", "settings": {"server": server, "key": key}}
    (profile / "service.json").write_text(json.dumps(service))
    (scenes / "live.json").write_text(json.dumps(_SCENES))
    return {
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home / ".config"),
        "XDG_RUNTIME_DIR": str(runtime),
        "QT_QPA_PLATFORM": "xcb",
        "LIBGL_ALWAYS_SOFTWARE": "1",
    }
