-- Publish drafts. ARGV: run, count, age (ms), bytes, announcement (see copies.py); then for each
-- draft its channel, data, event ('' or 'e' and its name), key ('' or 'k' and the key) and
-- copy (see log.lua).
--
-- Returns the epoch, why a copy was denied ('' if none was), then for each draft its offset,
-- or 'EPOCH.OFFSET' if its key is known.
local log = open(ARGV[1])
if not log then
    return false
end
begin(log, (#ARGV - 5) / 5, ARGV[2], ARGV[3], ARGV[4])
log.announcement = tonumber(ARGV[5])
local answer = { log.epoch, '' }
for i = 6, #ARGV, 5 do
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
        local offset = append(log, channel, flags, string.sub(event, 2), ARGV[i + 1], ARGV[i + 4])
        if key ~= '' then
            redis.call('SET', key, log.epoch .. '.' .. whole(offset), 'PX', KEY_MEMORY)
        end
        answer[#answer + 1] = offset
    end
end
answer[2] = log.denied or ''
return answer
