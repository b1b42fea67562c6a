/*
 * A rival of the redis broker: one redis connection for each reader, as uWSGI's realtime plug-in
 * does it, whose offload thread waits for the message on one socket and then for room on the other.
 *
 *     relay PORT REDIS-PORT [waiting]
 *
 * `GET /NAME` makes a reader of the redis channel NAME: a connection of its own, SUBSCRIBE, and
 * each message as `data: MESSAGE`. Without `waiting` a message is sent at once, which is the least
 * that a connection a reader can cost; with it, as uWSGI does, only when epoll says there is
 * room: four epoll_ctl(2) more and another round of the loop. Its faults are left out: the
 * linear search for the session, and taking but one message of each read.
 */

#include "http.h"

#include <sys/epoll.h>
#include <sys/resource.h>

enum { EVENTS = 64, SIZE = 16384 }; /* 64 as in uWSGI's thread */

struct connection {
    int other;    /* the redis socket of a reader's, and the other way round; 0 for none */
    int is_redis;
    size_t have, out; /* in `data`: bytes read from redis, bytes for the reader */
    char *data;
};

static struct connection *connections;
static int epoll, redis_port, waiting;

static void watch(int fd, uint32_t events, int change) {
    struct epoll_event event = {.events = events, .data.fd = fd};
    if (epoll_ctl(epoll, change, fd, &event) < 0) die("epoll_ctl");
}

static void leave(int fd) {
    int both[] = {fd, connections[fd].other};
    for (int i = 0; i < 2; i++) {
        if (!both[i]) continue;
        free(connections[both[i]].data);
        connections[both[i]] = (struct connection){0};
        close(both[i]);
    }
}

static void join(int fd) {
    char request[4096], command[256], name[32];
    ssize_t got = recv(fd, request, sizeof request - 1, MSG_DONTWAIT);
    if (got <= 0) {
        leave(fd);
        return;
    }
    request[got] = 0; /* in one piece, from the load */
    if (sscanf(request, "GET /%31[a-z0-9] ", name) != 1) die("request");
    int redis = dial(redis_port);
    connections[fd].other = redis;
    connections[redis] = (struct connection){.other = fd, .is_redis = 1, .data = malloc(2 * SIZE)};
    int size = sprintf(command, "*2\r\n$9\r\nSUBSCRIBE\r\n$%zu\r\n%s\r\n", strlen(name), name);
    send_all(redis, command, (size_t)size);
    watch(redis, EPOLLIN, EPOLL_CTL_ADD);
}

/* "$N\r\nBYTES\r\n" at `from`. Returns where it ends, or NULL if it is not all there. */
static char *bulk(char *from, const char *end, char **text, size_t *size) {
    char *line = memchr(from, '\n', (size_t)(end - from));
    if (!line || *from != '$') return NULL;
    *size = strtoul(from + 1, NULL, 10);
    *text = line + 1;
    return *text + *size + 2 <= end ? *text + *size + 2 : NULL;
}

/* Take a push from redis. Returns where it ends, or NULL. */
static char *push(struct connection *c, int reader, char *from, const char *end) {
    static const char head[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
                               "Cache-Control: no-cache\r\n\r\n";
    char *text, *kind, *at = memchr(from, '\n', (size_t)(end - from));
    size_t size;
    if (!at || !(at = bulk(at + 1, end, &kind, &size))) return NULL;
    if (!(at = bulk(at, end, &text, &size))) return NULL;
    if (*kind == 's') { /* subscribe; its third is a number */
        if (!(at = memchr(at, '\n', (size_t)(end - at)))) return NULL;
        send_all(reader, head, sizeof head - 1);
        return at + 1;
    }
    if (!(at = bulk(at, end, &text, &size))) return NULL;
    char *out = c->data + SIZE;
    if (c->out + size + 16 > SIZE) die("room");
    memcpy(out + c->out, "data: ", 6);
    memcpy(out + c->out + 6, text, size);
    memcpy(out + c->out + 6 + size, "\n\n", 2);
    c->out += size + 8;
    return at;
}

static void hear(int fd) {
    struct connection *c = &connections[fd];
    ssize_t got = recv(fd, c->data + c->have, 4096, MSG_DONTWAIT);
    if (got <= 0) {
        if (got == 0 || errno != EAGAIN) leave(fd);
        return;
    }
    c->have += (size_t)got;
    char *from = c->data, *end = from + c->have, *next;
    while (from < end && (next = push(c, c->other, from, end))) from = next;
    c->have = (size_t)(end - from);
    memmove(c->data, from, c->have);
    if (!c->out) return;
    if (waiting) {
        watch(fd, 0, EPOLL_CTL_DEL);
        watch(c->other, EPOLLOUT, EPOLL_CTL_MOD);
        return;
    }
    send_all(c->other, c->data + SIZE, c->out);
    c->out = 0;
}

static void tell(int fd) {
    struct connection *redis = &connections[connections[fd].other];
    send_all(fd, redis->data + SIZE, redis->out);
    redis->out = 0;
    watch(fd, EPOLLIN, EPOLL_CTL_MOD);
    watch(connections[fd].other, EPOLLIN, EPOLL_CTL_ADD);
}

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    end_with_parent();
    redis_port = atoi(argv[2]);
    waiting = argc > 3;
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    connections = calloc(files.rlim_cur, sizeof *connections);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[1]))};
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&at, sizeof at) < 0) die("bind");
    listen(listener, 512);
    epoll = epoll_create1(0);
    watch(listener, EPOLLIN, EPOLL_CTL_ADD);
    for (;;) {
        struct epoll_event events[EVENTS];
        int ready = epoll_wait(epoll, events, EVENTS, -1);
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            if (fd == listener) {
                while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
                    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                    watch(fd, EPOLLIN, EPOLL_CTL_ADD);
                }
            } else if (connections[fd].is_redis) {
                hear(fd);
            } else if (!connections[fd].other) {
                join(fd);
            } else if (events[i].events & EPOLLOUT) {
                tell(fd);
            } else {
                leave(fd); /* a reader has nothing to say but that it goes */
            }
        }
    }
}
