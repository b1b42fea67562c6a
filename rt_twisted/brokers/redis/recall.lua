-- Read stored entries. ARGV: run, node, token ('' for no barrier), bytes after which the
-- rest of the channels is left out; then for each channel its name, the offset after which
-- to read, and a count of the newest (0 for all).
--
-- Returns epoch, offset, floor, since, now (ms); then for each channel its last offset
-- (nil if unknown) and its entries. The caller asks again for channels that are left out.
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
    if entries.err then -- another program's key: nothing is stored
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
    send_barrier(log, ARGV[2], ARGV[3])
end
return answer
