/* The client's side of websocket (RFC 6455), as far as the load needs it. */

#ifndef BENCHMARKS_WEBSOCKET_H
#define BENCHMARKS_WEBSOCKET_H

#include "http.h"

enum { TEXT = 1, CLOSE = 8, PING = 9, PONG = 10 };

/* The key is the RFC's own; nobody here looks at the answer to it. */
#define UPGRADE                                                                                    \
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"                   \
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"

struct frame {
    int opcode;
    char *payload;
    size_t size;
};

/* Take a server's frame from [from, end). Returns its whole length, 0 while it is not all there. */
static inline size_t frame_length(char *from, const char *end, struct frame *found) {
    size_t have = (size_t)(end - from), head = 2, size;
    const unsigned char *b = (const unsigned char *)from;
    if (have < head) return 0;
    size = b[1];
    if (size == 126) {
        head = 4;
        if (have < head) return 0;
        size = (size_t)b[2] << 8 | b[3];
    } else if (size > 126) {
        /* Masked, or above 64 KiB: neither is sent to us. */
        errno = 0;
        die("websocket frame");
    }
    if (have < head + size) return 0;
    *found = (struct frame){b[0] & 15, from + head, size};
    return head + size;
}

/* A client's frame, up to 65,535 bytes. Returns where it ends. */
static inline char *masked_frame(char *to, int opcode, const char *payload, size_t size) {
    static const char mask[4] = {0x37, (char)0xfa, 0x21, 0x3d};
    *to++ = (char)(0x80 | opcode);
    if (size < 126) {
        *to++ = (char)(0x80 | size);
    } else {
        *to++ = (char)(0x80 | 126);
        *to++ = (char)(size >> 8);
        *to++ = (char)size;
    }
    memcpy(to, mask, 4);
    to += 4;
    for (size_t i = 0; i < size; i++) *to++ = payload[i] ^ mask[i & 3];
    return to;
}

/* Make a websocket of a connected socket, waiting for the answer. */
static inline void upgrade(int fd, const char *path) {
    char request[2048], answer[4096];
    size_t have = 0;
    int size = sprintf(request, "GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\n" UPGRADE "\r\n", path);
    send_all(fd, request, (size_t)size);
    do {
        ssize_t got = recv(fd, answer + have, sizeof answer - 1 - have, 0);
        if (got <= 0) die("upgrade");
        have += (size_t)got;
        answer[have] = 0;
    } while (!strstr(answer, "\r\n\r\n"));
    if (strncmp(answer, "HTTP/1.1 101", 12) != 0) {
        fprintf(stderr, "%s\n", answer);
        errno = 0;
        die("upgrade");
    }
}

#endif
