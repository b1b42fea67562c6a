-- Publish drafts. ARGV: run, count, age (ms), bytes; the same three bounds for transient
-- drafts; announcement (see copies.py); then for each draft its channel, data, event ('' or 'e'
-- and its name, 't' and its name for a transient draft), key ('' or 'k' and the key) and copy
-- (see log.lua).
--
-- Returns the epoch, why a copy was denied ('' if none was), then for each draft its offset,
-- or 'EPOCH.OFFSET' if its key is known.
local log = open(ARGV[1])
if not log then
    return false
end
begin(log, (#ARGV - 8) / 5, ARGV[2], ARGV[3], ARGV[4])
local transient = { count = tonumber(ARGV[5]), age = tonumber(ARGV[6]), bytes = tonumber(ARGV[7]) }
log.announcement = tonumber(ARGV[8])
local answer = { log.epoch, '' }
for i = 9, #ARGV, 5 do
    local channel, event, key = ARGV[i], ARGV[i + 2], ARGV[i + 3]
    local known
    if key ~= '' then
        key = KEYS[1] .. 'k:' .. #channel .. ':' .. channel .. key
        known = redis.call('GET', key)
    end
    if known then
        answer[#answer + 1] = known
    else
        local flags = #event > 0 and event ~= 't' and EVENT or 0
        local bounds = string.sub(event, 1, 1) == 't' and transient or log
        event = string.sub(event, 2)
        local offset = append(log, channel, flags, event, ARGV[i + 1], ARGV[i + 4], bounds)
        if key ~= '' then
            redis.call('SET', key, log.epoch .. '.' .. whole(offset), 'PX', KEY_MEMORY)
        end
        answer[#answer + 1] = offset
    end
end
answer[2] = log.denied or ''
return answer
