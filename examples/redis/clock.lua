-- Publishes the time to the channel `clock`, each second. Needs: apt install lua-redis
local server = require('redis').connect('127.0.0.1', 6379)
while true do
    server:publish('clock', os.date('%H:%M:%S'))
    require('socket').sleep(1)
end
