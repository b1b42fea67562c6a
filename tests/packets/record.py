"""
Record what real publishers send by RTSP: `python -m tests.packets.record [NAME...]`.

Writes data/NAME.sdp and data/NAME.rtp, whose packets are as they were on the connection.
"""

from __future__ import annotations

import shlex
import socket
import subprocess
import sys
from contextlib import suppress

from rt_twisted.rtsp.messages import (
    InterleavedPacket,
    MessageParser,
    RtspRequest,
    write_interleaved,
    write_response,
)
from tests.packets import DATA

MOST = 60_000  # bytes of a recording

_SOURCE = "-f lavfi -i testsrc=size=160x120:rate=10 -f lavfi -i sine=sample_rate=48000 -t 3"
_X264 = "-c:v libx264 -preset ultrafast -pix_fmt yuv420p -g 5"
_X265 = "-c:v libx265 -preset ultrafast -pix_fmt yuv420p"
_VPX = "-deadline realtime -cpu-used 8 -g 5 -b:v 100k"
_FFMPEG = {
    "h264-aac": f"{_X264} -tune zerolatency -c:a aac",
    "h264-b-frames": f"{_X264} -bf 2 -c:a aac -b:a 320k -pkt_size 1200",
    "h264-slices": f"{_X264} -tune zerolatency -x264-params sliced-threads=1:slices=4 -an",
    "h265-mp3": f"{_X265} -x265-params log-level=error:keyint=5:bframes=0 -c:a libmp3lame",
    "h265-in-band": f"{_X265} -x265-params log-level=error:keyint=5:repeat-headers=1 -an",
    "vp8-opus": f"-c:v libvpx {_VPX} -c:a libopus -b:a 64k",
    "vp9-vorbis": f"-strict experimental -c:v libvpx-vp9 {_VPX} -c:a libvorbis -ac 2",
    "h264-pcma": f"{_X264} -tune zerolatency -c:a pcm_alaw -ar 8000",
    "jpeg-pcmu": "-c:v mjpeg -pix_fmt yuvj420p -huffman default -q:v 20 -c:a pcm_mulaw -ar 8000",
}
_PICTURE = (
    "videotestsrc num-buffers=20 is-live=true ! video/x-raw,width=160,height=120,framerate=10/1"
)
_SOUND = "audiotestsrc num-buffers=60 is-live=true ! audio/x-raw,rate=48000"
_GSTREAMER = {
    "gst-vp8-opus": f"{_PICTURE} ! vp8enc deadline=1 keyframe-max-dist=5"
    " ! video/x-vp8,profile=(string)0 ! s.sink_0"
    f" {_SOUND} ! opusenc ! s.sink_1",
    "gst-jpeg": f"{_PICTURE},format=I420 ! jpegenc quality=50 ! s.sink_0",
    "gst-h264-latm": f"{_PICTURE} ! x264enc tune=zerolatency key-int-max=5 ! s.sink_0"
    f" {_SOUND} ! voaacenc ! aacparse ! s.sink_1",
}


_PYAV = {"av1": "2"}  # seconds


def command_of(name: str, url: str) -> list[str]:
    """
    Return the command that publishes the recording *name* to *url*.
    """
    if name in _FFMPEG:
        output = f"-f rtsp -rtsp_transport tcp {url}"
        return shlex.split(f"ffmpeg -v error -re {_SOURCE} {_FFMPEG[name]} {output}")
    if name in _PYAV:
        return [sys.executable, "-m", "tests.packets.av1_publisher", url, _PYAV[name]]
    sink = f"rtspclientsink name=s protocols=tcp location={url}"
    return shlex.split(f"gst-launch-1.0 -q {sink} {_GSTREAMER[name]}")


def record(name: str) -> None:
    """
    Answer one publisher, and write what it sends.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"rtsp://127.0.0.1:{listener.getsockname()[1]}/{name}"
        publisher = subprocess.Popen(command_of(name, url), stdin=subprocess.DEVNULL)
        connection, _ = listener.accept()
    parser = MessageParser()
    packets: list[bytes] = []
    with connection, suppress(ConnectionResetError):  # its end after TEARDOWN
        while data := connection.recv(65536):
            for item in parser.feed(data):
                if isinstance(item, InterleavedPacket):
                    packets.append(write_interleaved(item.channel, item.data))
                elif isinstance(item, RtspRequest):
                    connection.sendall(_answer(name, item, parser))
            if sum(map(len, packets)) > MOST:
                break
    publisher.terminate()
    publisher.wait()
    (DATA / f"{name}.rtp").write_bytes(b"".join(packets))


def _answer(name: str, request: RtspRequest, parser: MessageParser) -> bytes:
    fields = [("CSeq", request.headers.get("cseq", "0")), ("Session", "1")]
    if request.method == "OPTIONS":
        fields.append(("Public", "ANNOUNCE, SETUP, RECORD, TEARDOWN"))
    if request.method == "ANNOUNCE":
        (DATA / f"{name}.sdp").write_bytes(request.body)
    if request.method == "SETUP":
        offered = request.headers["transport"]
        if "/TCP" not in offered:
            return write_response(461, fields)
        first = len(parser.channels)
        parser.channels |= {first, first + 1}
        channels = f"interleaved={first}-{first + 1}"
        fields.append(("Transport", f"RTP/AVP/TCP;unicast;{channels};mode=record"))
    return write_response(200, fields)


if __name__ == "__main__":
    for each in sys.argv[1:] or [*_FFMPEG, *_GSTREAMER, *_PYAV]:
        record(each)
