-- What all scripts begin with. KEYS[1] is what our keys begin with, KEYS[2]
-- what our pub/sub names begin with (those are not divided by databases).
local LOG, LAST, TIMES, LEAPS = KEYS[1] .. 'log', KEYS[1] .. 'last', KEYS[1] .. 'times', KEYS[1] .. 'leaps'
local PLAIN, EVENT, GAP = 1, 2, 4 -- flags of a message
local OVERHEAD = 256              -- bytes an entry counts beside its data
local KEY_MEMORY = 300000         -- ms
local ALWAYS = '\255'             -- in LAST, so that it is never empty; no channel's name

local function whole(number)
    return string.format('%.0f', number) -- tostring(1e15) has an exponent
end

local function clock()
    local time = redis.call('TIME')
    return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- The log, if it is that of this run of the server, and whole: redis may evict keys.
-- Whoever finds it is not has to say hello first.
local function open(run)
    local found = redis.call('HMGET', LOG, 'run', 'epoch', 'offset', 'floor', 'since', 'marked')
    if found[1] ~= run or not found[2] or redis.call('ZCARD', LAST) == 0 then
        return nil
    end
    return {
        epoch = found[2],
        offset = tonumber(found[3]),
        floor = tonumber(found[4]), -- messages up to here are too old
        since = tonumber(found[5]), -- what was before, this epoch does not answer for
        marked = tonumber(found[6]),
    }
end

-- Begin to append up to `most` messages. The numbers are taken first: if there
-- is no memory, redis refuses this, and nothing has happened.
local function begin(log, most, count, age, bytes)
    log.now, log.count, log.age, log.bytes = clock(), tonumber(count), tonumber(age), tonumber(bytes)
    redis.call('HINCRBY', LOG, 'offset', most)
    local passed = log.now - log.marked -- less than 0 if the clock was set back
    if passed >= 0 and passed < math.min(10000, math.max(1000, log.age / 20)) then
        return
    end
    -- Now and then note where the log stands; what stood there `age` ago is the floor.
    redis.call('ZADD', TIMES, 'NX', log.now, whole(log.offset))
    local old = redis.call('ZREVRANGEBYSCORE', TIMES, log.now - log.age, '-inf', 'LIMIT', 0, 1)[1]
    if old and tonumber(old) > log.floor then
        log.floor = tonumber(old)
        redis.call('ZREMRANGEBYSCORE', LAST, '-inf', old)
    end
    redis.call('ZREMRANGEBYSCORE', TIMES, '-inf', log.now - log.age)
    redis.call('HSET', LOG, 'marked', whole(log.now), 'floor', whole(log.floor))
end

-- Let the stream remember an entry: so many, so many bytes, for so long. Each
-- entry knows how many bytes were before it.
local function remember(log, channel, offset, prev, flags, event, data)
    local size = #data + OVERHEAD
    if log.count == 0 or log.age < 1 or size > log.bytes then
        return
    end
    local stream, counted = KEYS[1] .. 's:' .. channel, KEYS[1] .. 'b:' .. channel
    local sum, base = string.match(redis.call('GET', counted) or '', '^(%d+) (%d+)$')
    if not sum then
        redis.call('DEL', stream) -- if it is there, its bytes are not known: the count was evicted
        sum, base = 0, 0
    end
    local head = prev .. ' ' .. whole(log.now) .. ' ' .. sum .. ' ' .. flags .. ' ' .. event
    local function add()
        return redis.pcall('XADD', stream, 'MAXLEN', '=', log.count, offset .. '-0', head, data)
    end
    local added = add()
    if type(added) == 'table' and added.err then
        redis.call('DEL', stream) -- of a log whose numbers are forgotten
        added = add()
        if type(added) == 'table' and added.err then
            return
        end
    end
    sum = sum + size
    while sum - base > log.bytes do
        local oldest = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
        base = tonumber(string.match(oldest[2][1], '^%d+ %d+ (%d+)'))
        if sum - base > log.bytes then
            redis.call('XDEL', stream, oldest[1])
        end
    end
    redis.call('SET', counted, whole(sum) .. ' ' .. whole(base), 'PX', log.age)
    redis.call('PEXPIRE', stream, log.age)
end

-- Give a message its number, remember it and send it.
local function append(log, channel, flags, event, data)
    log.offset = log.offset + 1
    local offset = whole(log.offset)
    local prev = redis.call('ZSCORE', LAST, channel) or whole(log.floor)
    redis.call('ZADD', LAST, offset, channel)
    if flags ~= GAP then
        remember(log, channel, offset, prev, flags, event, data)
    end
    local head = log.epoch .. ' ' .. offset .. ' ' .. prev .. ' ' .. flags .. ' ' .. event .. '\n'
    redis.call('PUBLISH', KEYS[2] .. 'm:' .. channel, head .. data)
    return log.offset
end

-- Tell a node, in the stream of what it hears, where the log stands.
local function mark(log, node, token)
    redis.call('PUBLISH', KEYS[2] .. 'n:' .. node, log.epoch .. ' ' .. whole(log.offset) .. ' ' .. token)
end
