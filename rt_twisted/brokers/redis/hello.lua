-- Open the log on a new connection, or begin one. ARGV: run, a name for a new epoch, the
-- epoch and offset that the node knows ('' if none), whether this server has all of its
-- data after a restart.
--
-- Returns epoch, offset, the offset after which this epoch may have all messages, and its
-- offset jumps (old, new, old, new...).
local run, fresh, known_epoch, known = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local safe = ARGV[5] == '1'
local LEAP, MOST_LEAPS = 1048576, 50
local found = redis.call('HMGET', LOG, 'run', 'epoch', 'offset', 'since', 'floor')
local epoch, offset, since = found[2], tonumber(found[3]), tonumber(found[4])
local anew = not (epoch and offset and since and redis.call('ZCARD', LAST) > 0)

if anew then
    -- Streams of before may still exist and be read: the new offsets are higher. The
    -- node's offset may be forged; Lua's integers end at 2^53.
    offset = math.max(offset or 0, math.min(known, 2 ^ 52))
    offset = offset > 0 and offset + LEAP or 0
    since = offset
    redis.call('DEL', LOG, LAST, TIMES, LEAPS)
    redis.call('ZADD', LAST, '+inf', ALWAYS)
    redis.call('HSET', LOG, 'floor', whole(offset), 'marked', 0)
    found[5] = nil
else
    local witness = known_epoch == epoch
    if found[1] ~= run then
        -- Another process has this data, perhaps not all of it: an offset that may have
        -- been given is not given again.
        local old = offset
        offset = old + LEAP
        -- A write that takes no memory: after it redis allows all others of this script, even
        -- if its memory is full. Subscribers must be able to connect then.
        redis.call('DEL', KEYS[1])
        if witness then
            anew = known > old
        else
            anew = not safe
        end
        redis.call('ZADD', LEAPS, offset, whole(old))
        if redis.call('ZCARD', LEAPS) > MOST_LEAPS then
            since = math.max(since, tonumber(redis.call('ZPOPMIN', LEAPS)[2]))
        end
    elseif witness then
        anew = known > offset
        local near = redis.call('ZRANGEBYSCORE', LEAPS, '(' .. whole(known), '+inf', 'LIMIT', 0, 1)[1]
        if near and known > tonumber(near) then
            anew = true -- the node's last message was before the jump, and is lost
        end
    end
    if anew then
        since = offset
        redis.call('DEL', LEAPS)
    end
end
if anew then
    epoch = fresh
end
if anew or found[1] ~= run then -- otherwise write nothing: there may be no memory
    redis.call('HSET', LOG, 'run', run, 'epoch', epoch, 'offset', whole(offset), 'since', whole(since))
end
local leaps = redis.call('ZRANGE', LEAPS, 0, -1, 'WITHSCORES')
return { epoch, offset, math.max(since, tonumber(found[5]) or 0), leaps }
