/*
 * Viewers of one stream over HTTP/1.0, driven by lines on stdin.
 *
 *     viewers PORT PATH COUNT STALLED SIZE
 *
 * COUNT viewers read all they are sent; STALLED more send a request and read nothing. With SIZE
 * above 0 the stream consists of messages of SIZE bytes that begin with the time at which they
 * were published (CLOCK_MONOTONIC, ns, little-endian). Each command is answered by a line of JSON:
 *
 *     open              connect all, wait until each of the COUNT has received a byte of its body
 *     measure SECONDS   what is received meanwhile: bytes of all, the least and the most of one
 *                       viewer, and how late messages were (ms)
 *     hangup            close the stalled connections at once
 *
 * While nothing is ready it naps, as load.c does, except with SIZE: a nap would count as lateness.
 */

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    EVENTS = 512,
    OPENING = 32,       /* connections being opened at a time */
    NAP = 200,          /* us */
    CHUNK = 256 * 1024, /* one read */
    MOST_LATE = 1 << 22,
};

enum state { NEW, CONNECTING, HEAD, BODY, CLOSED };

struct viewer {
    int fd;
    enum state state;
    int matched; /* bytes of the head's end that were seen */
    uint64_t received, at;
    unsigned char stamp[8];
};

static int epoll;
static int port;
static const char *path;
static long count, stalled, size;
static long opening, ready, closed_early, next_viewer;
static struct viewer *viewers;
static uint32_t *late; /* us */
static long late_count;

static void die(const char *what) {
    perror(what);
    exit(1);
}

static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void open_next(void) {
    long number = next_viewer++;
    struct viewer *v = &viewers[number];
    v->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (v->fd < 0) die("socket");
    struct linger reset = {1, 0};
    setsockopt(v->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(v->fd, (struct sockaddr *)&to, sizeof to) < 0 && errno != EINPROGRESS)
        die("connect");
    v->state = CONNECTING;
    opening++;
    struct epoll_event event = {.events = EPOLLOUT, .data.u64 = (uint64_t)number};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, v->fd, &event) < 0) die("epoll_ctl");
}

static void ask(long number) {
    struct viewer *v = &viewers[number];
    char request[1024];
    int length = snprintf(request, sizeof request, "GET %s HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n", path);
    if (send(v->fd, request, (size_t)length, MSG_NOSIGNAL) != length) die("send");
    v->state = HEAD;
    if (number >= count) { /* reads nothing */
        opening--;
        epoll_ctl(epoll, EPOLL_CTL_DEL, v->fd, NULL);
        return;
    }
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.u64 = (uint64_t)number};
    if (epoll_ctl(epoll, EPOLL_CTL_MOD, v->fd, &event) < 0) die("epoll_ctl");
}

/* Note the times of the messages that *n* bytes of a body complete. */
static void look(struct viewer *v, const char *data, size_t n, uint64_t now) {
    while (n) {
        uint64_t place = v->at % (uint64_t)size;
        size_t step = (size_t)((uint64_t)size - place);
        if (step > n) step = n;
        for (size_t i = 0; place + i < 8 && i < step; i++)
            v->stamp[place + i] = (unsigned char)data[i];
        v->at += step;
        data += step;
        n -= step;
        if (v->at % (uint64_t)size == 0 && late_count < MOST_LATE) {
            uint64_t stamp;
            memcpy(&stamp, v->stamp, 8);
            late[late_count++] = now > stamp ? (uint32_t)((now - stamp) / 1000) : 0;
        }
    }
}

static void take(struct viewer *v, const char *data, size_t n, uint64_t now) {
    static const char end[] = "\r\n\r\n";
    size_t i = 0;
    while (v->state == HEAD && i < n) {
        v->matched = data[i] == end[v->matched] ? v->matched + 1 : data[i] == '\r';
        i++;
        if (v->matched == 4) {
            v->state = BODY;
            v->matched = 0;
        }
    }
    if (v->state != BODY || i == n) return;
    if (!v->matched) { /* the first byte of the body */
        v->matched = 1;
        ready++;
        opening--;
    }
    v->received += n - i;
    if (size) look(v, data + i, n - i, now);
}

static void read_from(struct viewer *v, uint64_t now) {
    static char data[CHUNK];
    for (;;) {
        ssize_t n = recv(v->fd, data, sizeof data, 0);
        if (n > 0) {
            take(v, data, (size_t)n, now);
            if ((size_t)n == sizeof data) continue;
            return;
        }
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
        if (v->state != BODY || !v->matched) opening--;
        v->state = CLOSED;
        closed_early++;
        close(v->fd);
        return;
    }
}

static int by_value(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static double late_ms(double part) {
    if (!late_count) return 0;
    long place = (long)(part * (double)(late_count - 1));
    return late[place] / 1000.0;
}

static void report(double seconds) {
    uint64_t bytes = 0, least = UINT64_MAX, most = 0;
    for (long i = 0; i < count; i++) {
        uint64_t n = viewers[i].received;
        bytes += n;
        if (n < least) least = n;
        if (n > most) most = n;
    }
    qsort(late, (size_t)late_count, sizeof *late, by_value);
    printf("{\"seconds\": %.6f, \"bytes\": %llu, \"least\": %llu, \"most\": %llu, "
           "\"late_p50\": %.3f, \"late_p99\": %.3f, \"late_max\": %.3f, \"closed\": %ld}\n",
           seconds, (unsigned long long)bytes, (unsigned long long)(count ? least : 0),
           (unsigned long long)most, late_ms(0.5), late_ms(0.99), late_ms(1), closed_early);
    fflush(stdout);
}

int main(int argc, char **argv) {
    if (argc != 6) return 2;
    port = atoi(argv[1]);
    path = argv[2];
    count = atol(argv[3]);
    stalled = atol(argv[4]);
    size = atol(argv[5]);
    viewers = calloc((size_t)(count + stalled) + 1, sizeof *viewers);
    late = malloc(sizeof *late * MOST_LATE);
    epoll = epoll_create1(0);
    if (!viewers || !late || epoll < 0) die("memory");
    const uint64_t input = UINT64_MAX;
    struct epoll_event stdin_event = {.events = EPOLLIN, .data.u64 = input};
    epoll_ctl(epoll, EPOLL_CTL_ADD, 0, &stdin_event);
    int is_opening = 0, is_measuring = 0;
    uint64_t began = 0, until = 0;
    for (;;) {
        struct epoll_event events[EVENTS];
        int wait = size ? 1 : 0;
        int found = epoll_wait(epoll, events, EVENTS, wait);
        if (!found && !wait) {
            struct timespec pause = {0, NAP * 1000};
            nanosleep(&pause, NULL);
        }
        uint64_t now = now_ns();
        for (int i = 0; i < found; i++) {
            uint64_t tag = events[i].data.u64;
            if (tag == input) {
                char line[64];
                ssize_t n = read(0, line, sizeof line - 1);
                if (n <= 0) return 0;
                line[n] = 0;
                if (!strncmp(line, "open", 4)) is_opening = 1;
                if (!strncmp(line, "measure", 7)) {
                    is_measuring = 1;
                    began = now_ns();
                    until = began + (uint64_t)(atof(line + 7) * 1e9);
                    late_count = 0;
                    for (long j = 0; j < count; j++) viewers[j].received = 0;
                }
                if (!strncmp(line, "hangup", 6)) {
                    for (long j = count; j < count + stalled; j++) close(viewers[j].fd);
                    puts("{}");
                    fflush(stdout);
                }
            } else if (viewers[tag].state == CONNECTING) {
                ask((long)tag);
            } else if (viewers[tag].state != CLOSED) {
                read_from(&viewers[tag], now);
            }
        }
        if (is_opening) {
            while (next_viewer < count + stalled && opening < OPENING) open_next();
            if (next_viewer == count + stalled && ready + closed_early >= count && !opening) {
                is_opening = 0;
                printf("{\"ready\": %ld, \"closed\": %ld}\n", ready, closed_early);
                fflush(stdout);
            }
        }
        if (is_measuring && now >= until) {
            is_measuring = 0;
            report((double)(now - began) / 1e9);
        }
    }
}
