-- List the channels that have messages after an offset. ARGV: run, offset, most names that are
-- returned, 1 for those with the newest messages (otherwise those with the oldest).
--
-- Returns epoch, the log's offset, floor, the last offset of the last channel that is
-- returned, and the names. It takes time for each name, and not for each channel of the log.
local log = open(ARGV[1])
if not log then
    return false
end
local after, most, names = '(' .. ARGV[2], tonumber(ARGV[3]), nil
if ARGV[4] == '1' then
    names = redis.call('ZREVRANGEBYSCORE', LAST, '(+inf', after, 'LIMIT', 0, most)
else
    names = redis.call('ZRANGEBYSCORE', LAST, after, '(+inf', 'LIMIT', 0, most)
end
local last = #names > 0 and redis.call('ZSCORE', LAST, names[#names]) or ARGV[2]
return { log.epoch, log.offset, log.floor, last, names }
