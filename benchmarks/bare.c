/*
 * The kernel's own price of a fan-out: one loop over send(2), and nothing else.
 *
 *     bare PORT [websocket]
 *
 * `GET /NAME` makes a reader of channel NAME, `POST /NAME` sends its body to all of them.
 * Readers are sent server-sent events, or websocket frames after a handshake that computes nothing.
 * The frames of one turn of the loop are joined, one send(2) a reader. NAME is a letter and
 * a number below CHANNELS; there is no history, no limit, no error page: it is a yardstick.
 */

#include "http.h"

#include <sys/epoll.h>
#include <sys/resource.h>

enum { LETTERS = 26, CHANNELS = 16384, EVENTS = 512, REQUEST = 65536 };

struct channel {
    int *readers;
    uint32_t count, room;
    char *frames; /* of this turn, joined */
    size_t size, space;
};

struct connection {
    struct channel *channel; /* what it reads, or NULL */
    char *request;           /* what came of the next request, publishers only */
    size_t have;
};

static struct channel channels[LETTERS][CHANNELS];
static struct channel *marked[LETTERS * CHANNELS];
static size_t marks;
static struct connection *connections;
static uint32_t messages;
static int websocket;

static struct channel *channel_of(const char *name) {
    unsigned letter = (unsigned)(name[0] - 'a');
    unsigned long number = strtoul(name + 1, NULL, 10);
    if (letter >= LETTERS || number >= CHANNELS) die("channel name");
    return &channels[letter][number];
}

static void join(int fd, struct channel *channel) {
    static const char upgraded[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                                   "Connection: Upgrade\r\n\r\n";
    static const char head[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
                               "Cache-Control: no-store\r\n\r\n";
    if (channel->count == channel->room) {
        channel->room = channel->room ? channel->room * 2 : 1;
        channel->readers = realloc(channel->readers, channel->room * sizeof(int));
    }
    channel->readers[channel->count++] = fd;
    connections[fd].channel = channel;
    if (websocket)
        send_all(fd, upgraded, sizeof upgraded - 1);
    else
        send_all(fd, head, sizeof head - 1);
}

static void publish(int fd, struct channel *channel, const char *body, size_t size) {
    static const char reply[] = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    send_all(fd, reply, sizeof reply - 1);
    if (!channel->count) return;
    if (channel->space < channel->size + size + 64) {
        channel->space = channel->space * 2 + size + 64;
        channel->frames = realloc(channel->frames, channel->space);
    }
    if (!channel->size) marked[marks++] = channel;
    char *end = channel->frames + channel->size;
    if (websocket) {
        if (size > 125) die("message size");
        end[0] = (char)0x81;
        end[1] = (char)size;
        memcpy(end + 2, body, size);
        channel->size += size + 2;
        return;
    }
    memcpy(end, "data: ", 6);
    memcpy(end + 6, body, size);
    int id = sprintf(end + 6 + size, "\nid: e7.%010u\n\n", ++messages);
    channel->size += 6 + size + (size_t)id;
}

static void fan_out(struct channel *channel) {
    for (uint32_t i = 0; i < channel->count; i++)
        send_all(channel->readers[i], channel->frames, channel->size);
    channel->size = 0;
}

static void leave(int fd) {
    struct channel *channel = connections[fd].channel;
    for (uint32_t i = 0; channel && i < channel->count; i++)
        if (channel->readers[i] == fd) {
            channel->readers[i] = channel->readers[--channel->count];
            break;
        }
    free(connections[fd].request);
    connections[fd] = (struct connection){0};
    close(fd);
}

static void feed(int fd) {
    struct connection *c = &connections[fd];
    static char input[REQUEST];
    char *text = c->request ? c->request : input;
    ssize_t got = recv(fd, text + c->have, REQUEST - 1 - c->have, MSG_DONTWAIT);
    if (got <= 0) {
        if (got == 0 || errno != EAGAIN) leave(fd);
        return;
    }
    c->have += (size_t)got;
    text[c->have] = 0;
    if (strncmp(text, "GET /", 5) == 0 && strstr(text, "\r\n\r\n")) {
        c->have = 0;
        join(fd, channel_of(text + 5));
        return;
    }
    size_t whole;
    while ((whole = strncmp(text, "POST /", 6) == 0 ? message_length(text) : 0)) {
        size_t head = (size_t)(strstr(text, "\r\n\r\n") - text) + 4;
        publish(fd, channel_of(text + 6), text + head, whole - head);
        memmove(text, text + whole, c->have - whole + 1);
        c->have -= whole;
    }
    if (c->have && !c->request) {
        c->request = malloc(REQUEST);
        memcpy(c->request, text, c->have);
    }
}

int main(int argc, char **argv) {
    if (argc < 2) return 2;
    websocket = argc > 2;
    end_with_parent();
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    connections = calloc(files.rlim_cur, sizeof *connections);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[1]))};
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&at, sizeof at) < 0) die("bind");
    listen(listener, 512);
    int epoll = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener};
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        struct epoll_event events[EVENTS];
        int ready = epoll_wait(epoll, events, EVENTS, -1);
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            if (fd != listener) {
                feed(fd);
                continue;
            }
            while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
                setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                event = (struct epoll_event){.events = EPOLLIN, .data.fd = fd};
                epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
            }
        }
        for (size_t i = 0; i < marks; i++) fan_out(marked[i]);
        marks = 0;
    }
}
