/* Publishing past the daemon: to redis (RESP2) and to RabbitMQ (AMQP 0-9-1, section 4.2). */

#ifndef BENCHMARKS_CARRIERS_H
#define BENCHMARKS_CARRIERS_H

#include "http.h"

/* PUBLISH of a message without zero bytes. Returns where the command ends. */
static inline char *redis_publish(char *to, const char *channel, const char *message) {
    return to + sprintf(to, "*3\r\n$7\r\nPUBLISH\r\n$%zu\r\n%s\r\n$%zu\r\n%s\r\n", strlen(channel),
                        channel, strlen(message), message);
}

static inline char *amqp_int(char *to, uint64_t value, int bytes) {
    while (bytes--) *to++ = (char)(value >> 8 * bytes);
    return to;
}

static inline char *amqp_text(char *to, const char *text) {
    *to++ = (char)strlen(text);
    return stpcpy(to, text);
}

static inline char *amqp_long_text(char *to, const char *text, size_t size) {
    to = amqp_int(to, size, 4);
    memcpy(to, text, size);
    return to + size;
}

/* A frame: leave room for its head, write the payload, then close it. */
enum { FRAME_HEAD = 7, METHOD = 1, HEADER = 2, BODY = 3 };

static inline char *amqp_frame(char *frame, char *end, int type, int channel) {
    char *head = amqp_int(frame, (uint64_t)type, 1);
    head = amqp_int(head, (uint64_t)channel, 2);
    amqp_int(head, (uint64_t)(end - frame - FRAME_HEAD), 4);
    *end++ = (char)0xce;
    return end;
}

static inline char *amqp_method(char *frame, int class, int method) {
    return amqp_int(amqp_int(frame + FRAME_HEAD, (uint64_t)class, 2), (uint64_t)method, 2);
}

/* Wait for a method, skipping everything else. */
static inline void amqp_wait(int fd, int class, int method) {
    for (;;) {
        unsigned char head[FRAME_HEAD];
        static unsigned char payload[1 << 17];
        if (recv(fd, head, sizeof head, MSG_WAITALL) != sizeof head) die("amqp");
        size_t size = (size_t)head[3] << 24 | (size_t)head[4] << 16 | (size_t)head[5] << 8 | head[6];
        if (size + 1 > sizeof payload) die("amqp frame");
        if (recv(fd, payload, size + 1, MSG_WAITALL) != (ssize_t)size + 1) die("amqp");
        if (head[0] == METHOD && payload[1] == class && payload[3] == method) return;
    }
}

/* Log in as guest to the virtual host /, and open channel 1, of a connected socket. */
static inline void amqp_open(int fd) {
    char frame[512], *end;
    send_all(fd, "AMQP\0\0\11\1", 8);
    amqp_wait(fd, 10, 10); /* connection.start */
    end = amqp_int(amqp_method(frame, 10, 11), 0, 4);
    end = amqp_text(end, "PLAIN");
    end = amqp_text(amqp_long_text(end, "\0guest\0guest", 12), "en_US");
    end = amqp_frame(frame, end, METHOD, 0);
    send_all(fd, frame, (size_t)(end - frame));
    amqp_wait(fd, 10, 30); /* connection.tune: take 128 KiB, no heartbeat */
    end = amqp_int(amqp_method(frame, 10, 31), 2047, 2);
    end = amqp_frame(frame, amqp_int(amqp_int(end, 1 << 17, 4), 0, 2), METHOD, 0);
    send_all(fd, frame, (size_t)(end - frame));
    end = amqp_text(amqp_method(frame, 10, 40), "/");
    end = amqp_frame(frame, amqp_int(end, 0, 2), METHOD, 0);
    send_all(fd, frame, (size_t)(end - frame));
    amqp_wait(fd, 10, 41);
    end = amqp_text(amqp_method(frame, 20, 10), "");
    end = amqp_frame(frame, end, METHOD, 1);
    send_all(fd, frame, (size_t)(end - frame));
    amqp_wait(fd, 20, 11);
}

/* basic.publish with its header and body. Returns where they end. */
static inline char *amqp_publish(char *to, const char *exchange, const char *key,
                                 const char *message) {
    size_t size = strlen(message);
    char *end = amqp_text(amqp_int(amqp_method(to, 60, 40), 0, 2), exchange);
    end = amqp_int(amqp_text(end, key), 0, 1);
    end = amqp_frame(to, end, METHOD, 1);
    char *header = end; /* class, weight, size, no properties */
    end = amqp_int(amqp_int(amqp_int(header + FRAME_HEAD, 60, 2), 0, 2), size, 8);
    char *body = amqp_frame(header, amqp_int(end, 0, 2), HEADER, 1);
    memcpy(body + FRAME_HEAD, message, size);
    return amqp_frame(body, body + FRAME_HEAD + size, BODY, 1);
}

#endif
