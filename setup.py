"""
What the distribution is called, holds and needs; the tools are in pyproject.toml.
"""

import re
from pathlib import Path

from setuptools import find_packages, setup

_init = Path(__file__).with_name("rt_twisted").joinpath("__init__.py").read_text()
_version = re.search(r'^__version__ = "(.+)"$', _init, re.MULTILINE)
assert _version, "rt_twisted/__init__.py names no version"

setup(
    name="rt-twisted",
    version=_version[1],
    description="A realtime push daemon on Twisted: publish once, reach every open connection",
    author="rt_twisted contributors",
    license="MIT",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    # Written out: an editable install then puts this directory on sys.path,
    # where twistd looks for twisted/plugins. Without it there is no `realtime`.
    package_dir={"": "."},
    # twisted.plugins is a folder that many distributions share: it has no
    # __init__.py, here or anywhere, or it would hide Twisted itself.
    packages=[*find_packages(include=["rt_twisted", "rt_twisted.*"]), "twisted.plugins"],
    package_data={
        "rt_twisted": ["py.typed"],
        "rt_twisted.actions": ["*.html", "*.js", "*.css"],
        "rt_twisted.brokers.amqp": ["*.xml"],
        "rt_twisted.brokers.redis": ["*.lua"],
    },
    zip_safe=False,
    install_requires=[
        # Upper bounds where names are used that the library does not promise.
        "twisted[tls]>=26.10,<27",  # before, twistd ended with 0 after a wrong option
        "h2>=4.3,<4.5",  # without it there is no HTTP/2, and everything else works
        "httptools>=0.7",
        "hiredis>=3.0",  # txredisapi takes it by itself, and is 20 times slower without
        "multipart>=1.2",
        "prometheus_client>=0.26",
        "pyopenssl>=26.0",
        "txamqp>=0.8.2,<0.9",
        "txredisapi>=1.6,<2",
        "websockets>=17.4,<18",  # before, messages could grow past the limit when inflated
        "zope.interface>=7.2",
    ],
    extras_require={
        "test": [
            "django>=5.2",  # an application that takes its example up
            "flask>=3.1",  # another one
            "hypothesis>=6.170",
            "pika>=1.4",  # another program that publishes by AMQP
            "pytest>=9.0",
            "pytest-twisted>=1.14.3",
            "pytest-xdist>=3.8",
            "python-socketio[client]>=5.18",  # somebody else's client
            "sseclient-py>=1.9",  # somebody else's opinion of our event streams
            "wsproto>=1.3",  # somebody else's opinion of our websockets
            "setuptools>=77",  # test_packaging builds with it, without asking the network
        ],
        "dev": [
            "import-linter==2.*",
            "mypy==2.4.*",
            "mypy-zope==1.0.17",  # moves together with mypy
            "ruff==0.17.*",
        ],
    },
    classifiers=[
        "Framework :: Twisted",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3.11",
        "Topic :: Internet :: WWW/HTTP :: HTTP Servers",
        "Typing :: Typed",
    ],
)
