-- Give up the right to number plain messages. ARGV: run, count, age (ms), bytes,
-- node, whether messages may have been lost meanwhile ('1'); then the channels.
--
-- Answers: how many were the node's. With a loss each of these gets a gap, a
-- number without a message: who reads over it is told. So does one that is nobody's
-- any more: leases run out.
local log = open(ARGV[1])
if not log then
    return false
end
begin(log, #ARGV - 6, ARGV[2], ARGV[3], ARGV[4])
local count = 0
for i = 7, #ARGV do
    local lease = KEYS[1] .. 'o:' .. ARGV[i]
    local owner = string.match(redis.call('GET', lease) or '', '^[^:]+')
    if owner == ARGV[5] or (not owner and ARGV[6] == '1') then
        redis.call('DEL', lease)
        count = count + 1
        if ARGV[6] == '1' then
            append(log, ARGV[i], GAP, '', '')
        end
    end
end
return count
