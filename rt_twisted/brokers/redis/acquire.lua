-- Acquire the leases to number the plain messages of channels. ARGV: run, node, token of
-- the barrier, owner's token, age (ms) from which another owner's lease may be taken (-1 for
-- never); then the channels.
--
-- Returns for each channel 1 if the caller has the lease, 0 if another node has it. After the
-- barrier no numbers of other nodes arrive.
local log = open(ARGV[1])
if not log then
    return false
end
local now, take, answer = clock(), tonumber(ARGV[5]), {}
for i = 6, #ARGV do
    local lease = KEYS[1] .. 'o:' .. ARGV[i]
    local owner, since = string.match(redis.call('GET', lease) or '', '^(%S+) (%d+)$')
    local free = not owner or string.match(owner, '^[^:]+') == ARGV[2]
    -- A lease from the future is old too: the clock was set back.
    if free or (take >= 0 and math.abs(now - since) >= take) then
        redis.call('SET', lease, ARGV[4] .. ' ' .. whole(now), 'PX', 60000)
        answer[#answer + 1] = 1
    else
        answer[#answer + 1] = 0
    end
end
send_barrier(log, ARGV[2], ARGV[3])
return answer
