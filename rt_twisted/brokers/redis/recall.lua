-- ARGV: run, node, token ('' for no mark), bytes after which it is enough; then
-- for each channel its name, the offset after which, and a count of the newest
-- (0 for all).
--
-- Answers: epoch, offset, floor, since, now (ms); then for each channel its last
-- offset (nil if not known) and entries. Perhaps not for all channels: the rest
-- is to be asked for again.
local log = open(ARGV[1])
if not log then
    return false
end
local answer = { log.epoch, log.offset, log.floor, log.since, clock() }
local left = tonumber(ARGV[4])
for i = 5, #ARGV, 3 do
    local stream, newest = KEYS[1] .. 's:' .. ARGV[i], tonumber(ARGV[i + 2])
    local entries
    if newest > 0 then
        entries = redis.pcall('XREVRANGE', stream, '+', '-', 'COUNT', newest)
    else
        entries = redis.pcall('XRANGE', stream, '(' .. ARGV[i + 1] .. '-0', '+')
    end
    if entries.err then -- somebody else's key: nothing is remembered
        entries = {}
    end
    for _, entry in ipairs(entries) do
        left = left - #entry[2][2] - OVERHEAD
    end
    answer[#answer + 1] = { redis.call('ZSCORE', LAST, ARGV[i]), entries }
    if left < 0 then
        break
    end
end
if ARGV[3] ~= '' then
    mark(log, ARGV[2], ARGV[3])
end
return answer
