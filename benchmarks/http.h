/* What the C programs here share: the end of an HTTP/1.1 response, and a clock, and no orphans. */

#ifndef BENCHMARKS_HTTP_H
#define BENCHMARKS_HTTP_H

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static inline uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline void die(const char *what) {
    fprintf(stderr, "%s: %s\n", what, errno ? strerror(errno) : "failed");
    exit(1);
}

/* However the parent ends, this process ends too. */
static inline void end_with_parent(void) { prctl(PR_SET_PDEATHSIG, SIGKILL); }

/*
 * The length of the HTTP message that `text` begins with, 0 while it is not all there.
 * `text` is zero-terminated. A chunked body ends with its first "0\r\n\r\n": good
 * enough for the short error pages and receipts met here.
 */
static inline size_t message_length(const char *text) {
    const char *end = strstr(text, "\r\n\r\n");
    if (!end) return 0;
    size_t head = (size_t)(end - text) + 4;
    const char *length = strcasestr(text, "\r\ncontent-length:");
    if (length && length < end) {
        size_t all = head + strtoul(length + 17, NULL, 10);
        return strlen(text) >= all ? all : 0;
    }
    const char *chunked = strcasestr(text, "\r\ntransfer-encoding: chunked");
    if (chunked && chunked < end) {
        const char *last = strstr(end + 2, "\r\n0\r\n\r\n");
        return last ? (size_t)(last - text) + 7 : 0;
    }
    return head;
}

/* A connected TCP socket to 127.0.0.1:port, without Nagle's delay. */
static inline int dial(int port) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
    if (fd < 0) die("socket");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) < 0) die("connect");
    return fd;
}

/* Send all of it, waiting for room where there is none. */
static inline void send_all(int fd, const char *data, size_t size) {
    while (size) {
        ssize_t sent = send(fd, data, size, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent >= 0) {
            data += sent;
            size -= (size_t)sent;
            continue;
        }
        if (errno != EAGAIN && errno != EINTR) return; /* the reading side sees the close */
        struct pollfd room = {.fd = fd, .events = POLLOUT};
        poll(&room, 1, 1000);
    }
}

#endif
