"""
The distribution: its name, contents and requirements. Tools are configured in pyproject.toml.
"""

import re
from pathlib import Path
from shutil import copytree
from typing import Any

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

_init = Path(__file__).with_name("rt_twisted").joinpath("__init__.py").read_text()
_version = re.search(r'^__version__ = "(.+)"$', _init, re.MULTILINE)
assert _version, "rt_twisted/__init__.py defines no version"

URL = ""  # of the repository, once it is public; docs/releasing.md

# Links to files of the repository do not work on the page of a package index.
_readme = Path(__file__).with_name("README.md").read_text()
if URL:
    _readme = re.sub(r"\]\((?!https?:|#)", f"]({URL}/blob/main/", _readme)
else:
    _readme = re.sub(r"\[([^]]*)\]\((?!https?:|#)[^)]*\)", r"\1", _readme)
PAGES = {
    "Documentation": f"{URL}/tree/main/docs",
    "Changes": f"{URL}/blob/main/CHANGES.md",
    "Issues": f"{URL}/issues",
    "Source": URL,
}

# Of the repository, for `python -m rt_twisted.tools.init` in an installed wheel.
SHIPPED = ("etc", "examples/systemd", "examples/nginx", "examples/haproxy", "examples/dashboards")


class BuildWithShippedFiles(build_py):
    """
    Also copies the files that `rt_twisted.tools.init` writes.
    """

    editable_mode: Any

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return  # they are read from the repository
        target = Path(self.build_lib, "rt_twisted", "tools", "shipped")
        for folder in SHIPPED:
            copytree(Path(__file__).parent / folder, target / folder, dirs_exist_ok=True)


setup(
    name="rt-twisted",
    version=_version[1],
    description="A realtime push daemon on Twisted: publish once, reach every open connection",
    long_description=_readme,
    long_description_content_type="text/markdown",
    url=URL or None,
    project_urls=PAGES if URL else {},
    author="rt_twisted contributors",
    license="MIT",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    # Explicit, so that an editable install puts this directory on sys.path, where
    # twistd looks for twisted/plugins. Without it there is no command `realtime`.
    package_dir={"": "."},
    # Many distributions share the folder twisted/plugins: it must not have an
    # __init__.py, which would hide Twisted itself.
    packages=[*find_packages(include=["rt_twisted", "rt_twisted.*"]), "twisted.plugins"],
    package_data={
        "rt_twisted": ["py.typed"],
        "rt_twisted.actions": ["*.html", "*.js", "*.css"],
        "rt_twisted.brokers.amqp": ["*.xml"],
        "rt_twisted.brokers.redis": ["*.lua"],
    },
    cmdclass={"build_py": BuildWithShippedFiles},
    zip_safe=False,
    install_requires=[
        # Upper bounds where the daemon uses names that are not public.
        "twisted[tls]>=26.10,<27",  # older twistd exits with 0 after a wrong option
        "h2>=4.3,<4.5",  # optional: without it there is no HTTP/2
        "httptools>=0.7",
        "hiredis>=3.0",  # txredisapi uses it if it is there, and is 20 times slower without it
        "multipart>=1.3.1",
        "prometheus_client>=0.26",
        "PyJWT>=2.12,<3",
        "pyopenssl>=26.0",
        "txamqp>=0.8.2,<0.9",
        "txredisapi>=1.6,<2",
        "websockets>=17.4,<18",  # in older versions inflated messages could exceed the limit
        "zope.interface>=7.2",
    ],
    extras_require={
        "test": [
            "aiortsp>=1.4",  # an independent client of RTSP
            "av>=17",  # decodes what the media formats write
            "django>=5.2",  # runs the example of the documentation
            "django-grip>=3.5",  # an application with GRIP, as for Pushpin
            "fastapi>=0.115",  # the same
            "flask>=3.1",  # the same
            "gripcontrol>=4.4",  # publishes by GRIP
            "gunicorn>=23",  # an application server behind the daemon
            "hypothesis>=6.170",
            "imageio-ffmpeg>=0.6",  # a newer ffmpeg than Debian's, with x265 and SVT-AV1
            "kubernetes-validate>=1.37",  # has the schemas of Kubernetes
            "pika>=1.4",  # an independent AMQP publisher
            "pytest>=9.0",
            "pytest-twisted>=1.14.3",
            "pytest-xdist>=3.8",
            "PyYAML>=6",  # reads manifests
            "python-socketio[client]>=5.18",  # an independent client
            "redis>=5",  # a program that only uses redis, as in the documentation
            "schemathesis>=4.32",  # sends what the OpenAPI document permits, and what it does not
            "sseclient-py>=1.9",  # an independent parser of event streams
            "uvicorn>=0.30",  # serves FastAPI
            "wsproto>=1.3",  # an independent websocket implementation
            "setuptools>=77",  # test_packaging builds with it, without the network
        ],
        "dev": [
            "import-linter==2.*",
            "mypy==2.4.*",
            "mypy-zope==1.0.17",  # must match mypy
            "ruff==0.17.*",
            "vulture==2.*",
        ],
    },
    keywords="realtime push sse eventsource websocket socket.io long-polling pubsub twisted",
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: No Input/Output (Daemon)",
        "Framework :: Twisted",
        "Intended Audience :: Developers",
        "Intended Audience :: System Administrators",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Programming Language :: Python :: 3.14",
        "Topic :: Internet :: WWW/HTTP :: HTTP Servers",
        "Topic :: System :: Networking",
        "Typing :: Typed",
    ],
)
