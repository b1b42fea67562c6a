/*
 * Channels, their messages, and whether every reader has them all, each once, in one order.
 *
 * A message is 100 bytes that begin with ~NUMBER~. The first reader of a channel to receive a
 * message decides its place in the channel's log; all others must agree with the log, and every
 * message must be in it once: nothing lost, repeated or out of order goes unnoticed.
 */

#ifndef BENCHMARKS_CHANNELS_H
#define BENCHMARKS_CHANNELS_H

#include "http.h"

#include <sys/epoll.h>

enum {
    PAYLOAD = 100,
    MARK = 12,        /* ~0123456789~ */
    PORTS = 8,
    PUBLISHERS = 256, /* of each way */
    REPLY = 16 * 1024,
};

enum { BY_HTTP, BY_WEBSOCKET, BY_REDIS, BY_AMQP, WAYS };

struct channel {
    char letter;
    uint32_t number, readers;
    uint32_t *log, length, room;
};

struct message {
    uint64_t sent;
    uint32_t channel, missing; /* readers that have not got it */
    uint16_t publisher, logged;
};
struct publisher {
    int fd, way;
    int waiting;      /* for so many responses */
    uint32_t missing; /* messages of its request that some reader has not got */
    size_t have;
    char reply[REPLY];
};

static int ports[PORTS], port_count; /* that readers connect to, in turn */

static int epoll;
static struct channel *channels;
static struct message *messages;
static struct publisher publishers[WAYS * PUBLISHERS];
static uint32_t channel_count, first_channel, message_count, next_channel;
static size_t message_room;

/* Of the command under way. */
static uint64_t deliveries, lost, repeated, disordered, strayed, closed, refused;
static uint32_t *each, *last; /* latencies in us, to every reader and to the last one */
static size_t each_count, last_count;
static char refusal[256];

static char *fill(char *to, const char *template, const char *channel, const char *message) {
    while (*template) {
        const char *value = NULL;
        if (strncmp(template, "{channel}", 9) == 0) value = channel;
        if (strncmp(template, "{message}", 9) == 0) value = message;
        if (!value) {
            *to++ = *template++;
            continue;
        }
        to = stpcpy(to, value);
        template += 9;
    }
    *to = 0;
    return to;
}

static void name_of(const struct channel *channel, char *name) {
    sprintf(name, "%c%u", channel->letter, channel->number);
}

static void watch(int fd, uint32_t events, uint64_t tag, int change) {
    struct epoll_event event = {.events = events, .data.u64 = tag};
    if (epoll_ctl(epoll, change, fd, &event) < 0) die("epoll_ctl");
}

/* A channel's reader that is at `place` received message `number`. Returns its new place. */
static uint32_t receive(uint32_t channel, uint32_t place, uint32_t number, uint64_t now) {
    if (number >= message_count) {
        strayed++;
        return place;
    }
    struct message *m = &messages[number];
    struct channel *c = &channels[channel];
    if (m->channel != channel) {
        strayed++;
        return place;
    }
    if (place == c->length) {
        if (m->logged) {
            repeated++;
            return place;
        }
        m->logged = 1;
        if (c->length == c->room) {
            c->room = c->room ? c->room * 2 : 4;
            c->log = realloc(c->log, c->room * sizeof *c->log);
        }
        c->log[c->length++] = number;
    } else if (c->log[place] != number) {
        disordered++;
        return place;
    }
    deliveries++;
    if (each) each[each_count++] = (uint32_t)((now - m->sent) / 1000);
    if (--m->missing == 0) {
        publishers[m->publisher].missing--;
        if (last) last[last_count++] = (uint32_t)((now - m->sent) / 1000);
    }
    return place + 1;
}

static uint32_t new_message(uint16_t by, uint64_t sent, char *payload) {
    if (message_count == message_room) {
        message_room = message_room ? message_room * 2 : 65536;
        messages = realloc(messages, message_room * sizeof *messages);
    }
    uint32_t channel = first_channel + next_channel++ % (channel_count - first_channel);
    uint32_t missing = channels[channel].readers;
    messages[message_count] = (struct message){sent, channel, missing, by, 0};
    if (missing) publishers[by].missing++;
    memset(payload, 'x', PAYLOAD);
    payload[PAYLOAD] = 0;
    payload[sprintf(payload, "~%010u~", message_count++)] = 'x';
    return channel;
}

#endif
