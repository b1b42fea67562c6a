-- Claim names, renew claims or release them. ARGV: run, milliseconds until a claim expires (0 to
-- release), '1' to take claims from their owners; then for each claim its name and the owner's
-- token.
--
-- Returns for each claim 1 if the owner had or has it, 0 if another owner has it.
local age, take, answer = tonumber(ARGV[2]), ARGV[3] == '1', {}
for i = 4, #ARGV, 2 do
    local key, token = KEYS[1] .. 'c:' .. ARGV[i], ARGV[i + 1]
    local owner = redis.call('GET', key)
    if owner and owner ~= token and not take then
        answer[#answer + 1] = 0
    else
        if age > 0 then
            redis.call('SET', key, token, 'PX', age)
        elseif owner then
            redis.call('DEL', key)
        end
        answer[#answer + 1] = 1
    end
end
return answer
