-- Adds entries to the list that all gateways read. KEYS: 1 entries by their end, 2 entries in the order
-- in which they came, 3 the list's birth and its last number. ARGV: 1 entries at most, then each
-- entry and how long it lives, in ms. Answers how many had no room.
--
-- Numbers begin with the server's time in us, so that a list that was forgotten and begun again counts
-- on from where no gateway has read yet.
local ENDS, ORDER, STATE = KEYS[1], KEYS[2], KEYS[3]
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
local lapsed = redis.call('ZRANGEBYSCORE', ENDS, '-inf', now, 'LIMIT', 0, 1000)
for _, entry in ipairs(lapsed) do
  redis.call('ZREM', ENDS, entry)
  redis.call('ZREM', ORDER, entry)
end
local birth = string.format('%.0f', now * 1000)
if redis.call('HSETNX', STATE, 'birth', birth) == 1 then redis.call('HSET', STATE, 'last', birth) end

local refused = 0
local room = tonumber(ARGV[1]) - redis.call('ZCARD', ENDS)
for i = 2, #ARGV, 2 do
  local ends = now + tonumber(ARGV[i + 1])
  local held = tonumber(redis.call('ZSCORE', ENDS, ARGV[i]) or nil)
  if held or room > 0 then
    -- Gateways that say the same a moment apart say nothing new.
    if not held or held + 2000 < ends then
      redis.call('ZADD', ENDS, string.format('%.0f', ends), ARGV[i])
      local number = redis.call('HINCRBY', STATE, 'last', 1)
      redis.call('ZADD', ORDER, string.format('%.0f', number), ARGV[i])
      if not held then room = room - 1 end
    end
  else
    refused = refused + 1
  end
end
local longest = redis.call('ZRANGE', ENDS, -1, -1, 'WITHSCORES')[2]
if longest then
  for _, key in ipairs(KEYS) do redis.call('PEXPIREAT', key, string.format('%.0f', longest)) end
end
return refused
