-- Release leases to number plain messages. ARGV: run, count, age (ms), bytes,
-- node, whether messages may have been lost meanwhile ('1'); then the channels.
--
-- Returns how many leases were the node's. With a loss each of their channels gets a gap, an
-- offset without a message, and so does a channel whose lease has run out.
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
            append(log, ARGV[i], GAP, '', '', '')
        end
    end
end
return count
