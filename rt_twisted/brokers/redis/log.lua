-- The beginning of all scripts. KEYS[1] is the prefix of the daemon's keys, KEYS[2] that
-- of its pub/sub names (which are not divided by databases).
local LOG, LAST, TIMES, LEAPS = KEYS[1] .. 'log', KEYS[1] .. 'last', KEYS[1] .. 'times', KEYS[1] .. 'leaps'
local PLAIN, EVENT, GAP = 1, 2, 4 -- flags of a message; ANNOUNCED is in copies.py
local OVERHEAD = 256              -- bytes counted for an entry beside its data
local KEY_MEMORY = 300000         -- ms
local ALWAYS = '\255'             -- a member of LAST, which is never empty; no channel's name

local function whole(number)
    return string.format('%.0f', number) -- tostring(1e15) has an exponent
end

local function clock()
    local time = redis.call('TIME')
    return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Return the log if it is that of this run of the server and complete (redis may evict
-- keys); otherwise nil, and the node has to call hello.lua first.
local function open(run)
    local found = redis.call('HMGET', LOG, 'run', 'epoch', 'offset', 'floor', 'since', 'marked')
    if found[1] ~= run or not found[2] or redis.call('ZCARD', LAST) == 0 then
        return nil
    end
    return {
        epoch = found[2],
        offset = tonumber(found[3]),
        floor = tonumber(found[4]), -- messages up to this offset are too old
        since = tonumber(found[5]), -- whether older messages are missing is unknown
        marked = tonumber(found[6]),
    }
end

-- Begin to append up to `most` messages. The offsets are taken first: if there is no
-- memory, redis rejects this, and nothing is changed.
local function begin(log, most, count, age, bytes)
    log.now, log.count, log.age, log.bytes = clock(), tonumber(count), tonumber(age), tonumber(bytes)
    redis.call('HINCRBY', LOG, 'offset', most)
    local passed = log.now - log.marked -- less than 0 if the clock was set back
    if passed >= 0 and passed < math.min(10000, math.max(1000, log.age / 20)) then
        return
    end
    -- Store the log's offset now and then; the one stored `age` ago is the floor.
    redis.call('ZADD', TIMES, 'NX', log.now, whole(log.offset))
    local old = redis.call('ZREVRANGEBYSCORE', TIMES, log.now - log.age, '-inf', 'LIMIT', 0, 1)[1]
    if old and tonumber(old) > log.floor then
        log.floor = tonumber(old)
        redis.call('ZREMRANGEBYSCORE', LAST, '-inf', old)
    end
    redis.call('ZREMRANGEBYSCORE', TIMES, '-inf', log.now - log.age)
    redis.call('HSET', LOG, 'marked', whole(log.now), 'floor', whole(log.floor))
end

-- Store an entry in the channel's stream, which is bounded by the count, bytes and age in
-- `bounds`. Each entry has the sum of the bytes before it.
local function remember(log, bounds, channel, offset, prev, flags, event, data)
    local size = #data + OVERHEAD
    if bounds.count == 0 or bounds.age < 1 or size > bounds.bytes then
        return
    end
    local stream, counted = KEYS[1] .. 's:' .. channel, KEYS[1] .. 'b:' .. channel
    local sum, base = string.match(redis.call('GET', counted) or '', '^(%d+) (%d+)$')
    if not sum then
        redis.call('DEL', stream) -- its bytes are unknown: the count was evicted
        sum, base = 0, 0
    end
    local head = prev .. ' ' .. whole(log.now) .. ' ' .. sum .. ' ' .. flags .. ' ' .. event
    local function add()
        return redis.pcall('XADD', stream, 'MAXLEN', '=', bounds.count, offset .. '-0', head, data)
    end
    local added = add()
    if type(added) == 'table' and added.err then
        redis.call('DEL', stream) -- it is of a log that is gone
        added = add()
        if type(added) == 'table' and added.err then
            return
        end
    end
    sum = sum + size
    while sum - base > bounds.bytes do
        local oldest = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
        base = tonumber(string.match(oldest[2][1], '^%d+ %d+ (%d+)'))
        if sum - base > bounds.bytes then
            redis.call('XDEL', stream, oldest[1])
        end
    end
    redis.call('SET', counted, whole(sum) .. ' ' .. whole(base), 'PX', bounds.age)
    redis.call('PEXPIRE', stream, bounds.age)
end

-- Give a message its offset, store it and publish it, and behind it its plain copy. `copy` is
-- '' for none, 's' and a name under which nodes receive plain messages, or 'o' and another
-- name. The first kind is announced by the flags: it is the next message that a node receives.
-- `bounds` are those of the channel's stream; without them they are the log's.
local function append(log, channel, flags, event, data, copy, bounds)
    log.offset = log.offset + 1
    local offset = whole(log.offset)
    local prev = redis.call('ZSCORE', LAST, channel) or whole(log.floor)
    redis.call('ZADD', LAST, offset, channel)
    if flags ~= GAP then
        remember(log, bounds or log, channel, offset, prev, flags, event, data)
    end
    if string.byte(copy) == 115 then -- s
        flags = whole(flags + log.announcement)
    end
    local name = KEYS[2] .. 'm:' .. channel
    local head = log.epoch .. ' ' .. offset .. ' ' .. prev .. ' ' .. flags .. ' ' .. event .. '\n'
    redis.call('PUBLISH', name, head .. data)
    if copy ~= '' then
        local sent = redis.pcall('PUBLISH', string.sub(copy, 2), data)
        if type(sent) == 'table' and sent.err then -- the ACL forbids the name
            log.denied = sent.err
            redis.call('PUBLISH', name, '') -- instead of the copy, which nodes expect now
        end
    end
    return log.offset
end

-- Send a barrier with the log's position to a node, in order with the messages.
local function send_barrier(log, node, token)
    redis.call('PUBLISH', KEYS[2] .. 'n:' .. node, log.epoch .. ' ' .. whole(log.offset) .. ' ' .. token)
end
