/* Connections that publish: POST, websocket frames, or past the daemon. */

#ifndef BENCHMARKS_PUBLISHERS_H
#define BENCHMARKS_PUBLISHERS_H

#include "carriers.h"
#include "channels.h"
#include "websocket.h"

enum { ROOM = 1 << 20 }; /* a request's body */

static const char *post_path, *headers, *body, *batch_path, *batch_headers, *line_text, *say_path,
    *exchange;
static int way, way_ports[WAYS];
static uint32_t publisher_counts[WAYS];

/* Readers are tagged by their number, publishers by theirs from here on. */
static const uint64_t PUBLISHER = 1ull << 32;

static struct publisher *publisher(uint32_t number) {
    while (publisher_counts[way] <= number) {
        uint32_t index = (uint32_t)way * PUBLISHERS + publisher_counts[way]++;
        struct publisher *p = &publishers[index];
        *p = (struct publisher){.fd = dial(way_ports[way]), .way = way};
        if (way == BY_WEBSOCKET) {
            char name[16], path[1024];
            name_of(&channels[first_channel], name);
            fill(path, say_path, name, "");
            upgrade(p->fd, path);
        }
        if (way == BY_AMQP) amqp_open(p->fd);
        watch(p->fd, EPOLLIN, PUBLISHER + index, EPOLL_CTL_ADD);
    }
    return &publishers[way * PUBLISHERS + (int)number];
}

/* A request in front of which others of the same connection may stand. Returns where it ends. */
static char *post(char *to, const char *path, const char *head, const char *content, size_t size) {
    to += sprintf(to, "POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\n%sContent-Length: %zu\r\n\r\n", path,
                  head, size);
    memcpy(to, content, size);
    return to + size;
}

/* Hand in the next `lines` messages. Returns where the request or the frames end. */
static char *hand_in(char *to, struct publisher *p, uint32_t lines, uint64_t sent) {
    static char content[ROOM];
    char name[16], payload[PAYLOAD + 1], path[1024], *end = way == BY_HTTP ? content : to;
    uint16_t index = (uint16_t)(p - publishers);
    for (uint32_t i = 0; i < lines; i++) {
        name_of(&channels[new_message(index, sent, payload)], name);
        switch (way) {
        case BY_HTTP: end = fill(end, lines > 1 ? line_text : body, name, payload); break;
        case BY_WEBSOCKET: end = masked_frame(end, TEXT, payload, PAYLOAD); break;
        case BY_REDIS: end = redis_publish(end, name, payload); break;
        case BY_AMQP: end = amqp_publish(end, exchange, name, payload); break;
        }
    }
    if (way != BY_HTTP) return end;
    fill(path, lines > 1 ? batch_path : post_path, name, "");
    p->waiting++;
    return post(to, path, lines > 1 ? batch_headers : headers, content, (size_t)(end - content));
}

/* Send `depth` requests of `lines` messages each, by one send(2). */
static void publish(uint16_t number, uint32_t lines, uint32_t depth, uint64_t sent) {
    static char requests[2 * ROOM];
    struct publisher *p = publisher(number);
    char *end = requests;
    for (uint32_t i = 0; i < depth; i++) {
        if (end - requests > ROOM / 2) die("requests too large");
        end = hand_in(end, p, lines, sent);
    }
    send_all(p->fd, requests, (size_t)(end - requests));
}

static void read_reply(struct publisher *p) {
    ssize_t got = recv(p->fd, p->reply + p->have, REPLY - 1 - p->have, MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) {
        closed++;
        watch(p->fd, 0, 0, EPOLL_CTL_DEL);
        return;
    }
    if (p->way != BY_HTTP) {
        /* Counts and receipts; only an error of redis says that something went wrong. */
        if (p->way == BY_REDIS && p->reply[0] == '-') refused++;
        return;
    }
    p->have += (size_t)got;
    p->reply[p->have] = 0;
    for (size_t whole; (whole = message_length(p->reply));) {
        if (strncmp(p->reply, "HTTP/1.1 2", 10) != 0) {
            refused++;
            snprintf(refusal, sizeof refusal, "%s", p->reply);
        }
        memmove(p->reply, p->reply + whole, p->have - whole + 1);
        p->have -= whole;
        p->waiting--;
    }
}

#endif
