/* Connections that read: server-sent events, websocket, or Socket.IO over websocket. */

#ifndef BENCHMARKS_READERS_H
#define BENCHMARKS_READERS_H

#include "channels.h"
#include "websocket.h"

enum {
    CUT = 512,          /* a mark or a frame that a read may end in */
    CHUNK = 256 * 1024, /* one read */
    PER_ADDRESS = 5000, /* readers a source address, far from the end of its ports */
};

enum state { CONNECTING, WAITING, GREETING, LIVE, CLOSED };
enum { EVENT_STREAM, WEBSOCKET, SOCKETIO }; /* what readers speak */

struct reader {
    int fd;
    enum state state;
    uint32_t channel, place; /* place: how far in the channel's log it is */
    uint32_t kept;           /* bytes in `cut` */
    char *cut;               /* the end of the last read, if something may go on after it */
};

static const char *read_path;
static int speak;
static struct reader *readers;
static uint32_t reader_count, live;

static void connect_reader(uint32_t number) {
    struct reader *r = &readers[number];
    *r = (struct reader){.channel = first_channel + number % (channel_count - first_channel)};
    r->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (r->fd < 0) die("socket");
    int one = 1;
    struct linger reset = {1, 0}; /* leaves no TIME_WAIT, so the next run has all ports */
    setsockopt(r->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    setsockopt(r->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    struct sockaddr_in from = {.sin_family = AF_INET}, to = from;
    from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + number / PER_ADDRESS);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    to.sin_port = htons((uint16_t)ports[number % (uint32_t)port_count]);
    if (bind(r->fd, (struct sockaddr *)&from, sizeof from) < 0) die("bind");
    if (connect(r->fd, (struct sockaddr *)&to, sizeof to) < 0 && errno != EINPROGRESS)
        die("connect");
    watch(r->fd, EPOLLOUT, number, EPOLL_CTL_ADD);
}

static void ask(uint32_t number) {
    struct reader *r = &readers[number];
    char name[16], path[1024], request[2048];
    name_of(&channels[r->channel], name);
    fill(path, read_path, name, "");
    const char *wish = speak == EVENT_STREAM ? "Accept: text/event-stream\r\n" : UPGRADE;
    int size = sprintf(request, "GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\n%s\r\n", path, wish);
    watch(r->fd, EPOLLIN | EPOLLET, number, EPOLL_CTL_MOD);
    r->state = WAITING;
    send_all(r->fd, request, (size_t)size);
}
static void keep(struct reader *r, const char *from, const char *end) {
    r->kept = (uint32_t)(end - from);
    if (r->kept > CUT) die("a frame too large");
    if (!r->cut) r->cut = malloc(CUT);
    memcpy(r->cut, from, r->kept);
}

static void join(struct reader *r) {
    r->state = LIVE;
    r->place = channels[r->channel].length;
    channels[r->channel].readers++;
    live++;
}

static void scan(struct reader *r, char *from, char *end, uint64_t now) {
    for (;;) {
        char *mark = memchr(from, '~', (size_t)(end - from));
        if (!mark) return;
        if (end - mark < MARK) {
            keep(r, mark, end);
            return;
        }
        uint32_t number = 0;
        for (int i = 1; i < MARK - 1; i++) number = number * 10 + (uint32_t)(mark[i] - '0');
        r->place = receive(r->channel, r->place, number, now);
        from = mark + PAYLOAD < end ? mark + PAYLOAD : end;
    }
}

static void answer(struct reader *r, int opcode, const char *payload, size_t size) {
    char frame[256];
    if (size > 125) die("a ping too large");
    send_all(r->fd, frame, (size_t)(masked_frame(frame, opcode, payload, size) - frame));
}

/* What Engine.IO 4 and Socket.IO 5 say beside messages. Returns whether it was one. */
static int obey_socketio(struct reader *r, const struct frame *frame) {
    if (!frame->size) return 1;
    char kind = frame->payload[0];
    if (kind == '4' && frame->size > 1) {
        if (frame->payload[1] == '2') return 0; /* an event */
        if (frame->payload[1] == '0' && r->state == GREETING) {
            join(r);
        } else {
            refused++;
            snprintf(refusal, sizeof refusal, "%.*s", (int)frame->size, frame->payload);
        }
    }
    if (kind == '0') answer(r, TEXT, "40", 2);
    if (kind == '2') answer(r, TEXT, "3", 1);
    return 1;
}

static void scan_frames(struct reader *r, char *from, char *end, uint64_t now) {
    struct frame frame;
    for (size_t size; (size = frame_length(from, end, &frame)); from += size) {
        if (frame.opcode == PING) {
            answer(r, PONG, frame.payload, frame.size);
        } else if (frame.opcode == CLOSE) {
            snprintf(refusal, sizeof refusal, "close: %.*s", (int)frame.size, frame.payload);
            refused++;
        } else if (speak == WEBSOCKET || !obey_socketio(r, &frame)) {
            scan(r, frame.payload, frame.payload + frame.size, now);
        }
    }
    if (from < end) keep(r, from, end);
}

static void read_from(struct reader *r, uint64_t now) {
    static char buffer[CUT + CHUNK];
    for (;;) {
        if (r->kept) memcpy(buffer, r->cut, r->kept);
        char *from = buffer + r->kept;
        ssize_t got = recv(r->fd, from, CHUNK, 0);
        if (got < 0 && errno == EAGAIN) return;
        if (got <= 0) {
            closed++;
            live -= r->state == LIVE;
            r->state = CLOSED;
            close(r->fd);
            return;
        }
        char *end = from + got;
        from = buffer;
        r->kept = 0;
        if (r->state == WAITING) {
            /* A head comes in one piece from all servers met here, or this says so. */
            char *body_at = memmem(from, (size_t)(end - from), "\r\n\r\n", 4);
            const char *wanted = speak == EVENT_STREAM ? "HTTP/1.1 200" : "HTTP/1.1 101";
            if (!body_at || strncmp(from, wanted, 12) != 0) {
                refused++;
                snprintf(refusal, sizeof refusal, "%.*s", (int)(end - from), from);
            }
            if (!body_at) return;
            from = body_at + 4;
            if (speak == SOCKETIO)
                r->state = GREETING;
            else
                join(r);
        }
        uint64_t then = each ? now_ns() : now;
        if (speak == EVENT_STREAM)
            scan(r, from, end, then);
        else
            scan_frames(r, from, end, then);
        if (got < CHUNK) return;
    }
}

#endif
