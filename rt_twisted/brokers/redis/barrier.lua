-- Send a barrier. ARGV: run, node, token.
local log = open(ARGV[1])
if not log then
    return false
end
send_barrier(log, ARGV[2], ARGV[3])
return 1
