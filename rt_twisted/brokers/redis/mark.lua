-- Send a barrier. ARGV: run, node, token.
local log = open(ARGV[1])
if not log then
    return false
end
mark(log, ARGV[2], ARGV[3])
return 1
