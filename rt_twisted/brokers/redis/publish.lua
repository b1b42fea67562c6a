-- Publish drafts. ARGV: run, count, age (ms), bytes; then for each draft its channel, data,
-- event ('' or 'e' and its name) and key ('' or 'k' and the key).
--
-- Returns the epoch, then for each draft its offset, or 'EPOCH.OFFSET' if its key is known.
local log = open(ARGV[1])
if not log then
    return false
end
begin(log, (#ARGV - 4) / 4, ARGV[2], ARGV[3], ARGV[4])
local answer = { log.epoch }
for i = 5, #ARGV, 4 do
    local channel, event, key = ARGV[i], ARGV[i + 2], ARGV[i + 3]
    local known
    if key ~= '' then
        key = KEYS[1] .. 'k:' .. #channel .. ':' .. channel .. key
        known = redis.call('GET', key)
    end
    if known then
        answer[#answer + 1] = known
    else
        local flags = event ~= '' and EVENT or 0
        local offset = append(log, channel, flags, string.sub(event, 2), ARGV[i + 1])
        if key ~= '' then
            redis.call('SET', key, log.epoch .. '.' .. whole(offset), 'PX', KEY_MEMORY)
        end
        answer[#answer + 1] = offset
    end
end
return answer
