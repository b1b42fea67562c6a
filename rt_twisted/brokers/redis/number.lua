-- Number plain messages. ARGV: run, count, age (ms), bytes, owner's token; then
-- for each message its channel, data and copy (see log.lua), which is never announced.
--
-- Returns why a copy was denied ('' if none was), then for each message its offset, or 0 if the
-- caller does not have the lease.
local log = open(ARGV[1])
if not log then
    return false
end
begin(log, (#ARGV - 5) / 3, ARGV[2], ARGV[3], ARGV[4])
local ours, answer = {}, { '' }
for i = 6, #ARGV, 3 do
    local channel = ARGV[i]
    if ours[channel] == nil then
        local lease = KEYS[1] .. 'o:' .. channel
        local owner = string.match(redis.call('GET', lease) or '', '^(%S+) ')
        ours[channel] = owner == ARGV[5]
        if ours[channel] then
            redis.call('PEXPIRE', lease, 60000)
        end
    end
    answer[#answer + 1] = ours[channel] and append(log, channel, PLAIN, '', ARGV[i + 1], ARGV[i + 2]) or 0
end
answer[1] = log.denied or ''
return answer
