-- Delete the stored entries of a channel, and append a gap to it, which all nodes receive. ARGV:
-- run, count, age (ms), bytes, channel.
local log = open(ARGV[1])
if not log then
    return false
end
begin(log, 1, ARGV[2], ARGV[3], ARGV[4])
redis.call('DEL', KEYS[1] .. 's:' .. ARGV[5], KEYS[1] .. 'b:' .. ARGV[5])
append(log, ARGV[5], GAP, '', '', '')
return 1
