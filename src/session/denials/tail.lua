-- What came since this gateway looked last. KEYS: as in add.lua. ARGV: 1 the list as the gateway knows
-- it, 2 the last number that it has read, 3 entries at most. Answers which list this is, and of each
-- entry: itself, its number, how long it still lives, in ms.
--
-- A list is named after the server's run and its birth: after a restart, a failover or a flush it has
-- another name, is read from its beginning, and lacks what a gateway may still know.
local ENDS, ORDER, STATE = KEYS[1], KEYS[2], KEYS[3]
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)') or '-'
local list = run .. ':' .. (redis.call('HGET', STATE, 'birth') or '-')
local after = list == ARGV[1] and '(' .. ARGV[2] or '-inf'
local found = redis.call('ZRANGEBYSCORE', ORDER, after, '+inf', 'WITHSCORES', 'LIMIT', 0, ARGV[3])
local entries = {}
for i = 1, #found, 2 do
  local left = tonumber(redis.call('ZSCORE', ENDS, found[i]) or now) - now
  entries[#entries + 1] = { found[i], string.format('%.0f', found[i + 1]), left }
end
return { list, entries }
