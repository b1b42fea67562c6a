-- Publishes each message of the channel `chat` reversed to `inverted`. Needs: apt install lua-redis
local connect = require('redis').connect
local input, output = connect('127.0.0.1', 6379), connect('127.0.0.1', 6379)
for message in input:pubsub({ subscribe = { 'chat' } }) do
    if message.kind == 'message' then
        output:publish('inverted', message.payload:reverse())
    end
end
