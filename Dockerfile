# docker build -t realtime .
# docker run --rm -p 8080:8080 -e RT_HTTP_SECRET=battery realtime
#
# Settings are variables (RT_PORT, RT_BROKER, ...) or options behind the image's name.

FROM debian:bookworm-slim AS build
RUN apt-get update && apt-get install --yes --no-install-recommends python3 python3-venv
COPY . /source
RUN python3 -m venv /opt/realtime \
    && /opt/realtime/bin/pip install --no-cache-dir --no-compile -c /source/constraints.txt /source \
    && /opt/realtime/bin/pip uninstall --yes --quiet setuptools pip \
    && find /opt/realtime -type d \( -name test -o -name tests \) -prune -exec rm -rf {} +

# The programs that install packages are left out. Of Python's caches those remain that the daemon
# uses: the last step, its check of the settings, writes them, and the cache of plug-ins.
FROM debian:bookworm-slim AS slim
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 ca-certificates \
    && groupadd --gid 10001 realtime \
    && useradd --uid 10001 --gid 10001 --create-home --home-dir /var/lib/realtime realtime \
    && rm -rf /var/lib/apt /var/cache/* /var/log/* /usr/share/doc /usr/share/man /usr/share/locale \
        /usr/share/info /usr/share/perl* /usr/lib/*/perl* /usr/lib/apt /usr/bin/perl* \
        /usr/lib/python3*/ensurepip /usr/lib/python3*/lib2to3 /usr/lib/python3*/pydoc_data \
    && find /usr/lib -type d -name __pycache__ -prune -exec rm -rf {} +
COPY --from=build /opt/realtime /opt/realtime
RUN /opt/realtime/bin/twistd -n --pidfile= realtime --broker=redis --check >/dev/null

FROM scratch
COPY --from=slim / /
ENV PATH=/opt/realtime/bin:/usr/bin:/bin \
    PYTHONUNBUFFERED=1 \
    RT_LISTEN=0 \
    RT_PORT=8080
WORKDIR /var/lib/realtime
USER 10001:10001
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=5s --start-period=15s CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen('http://127.0.0.1:' + os.environ['RT_PORT'] + '/healthz', timeout=4)"]
ENTRYPOINT ["twistd", "-n", "--pidfile=", "realtime"]
