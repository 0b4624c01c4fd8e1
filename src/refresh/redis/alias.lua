-- A refresh token's hash leads to its session. KEYS: 1 the alias. ARGV: 1 the session's id,
-- 2 generation, 3 the whole value "id:generation:mark", 4 how long it lives at least, in ms.
--
-- What is another session's stays that session's: a confused backend cannot make two people's
-- sessions one. A token that a session gets a second time is its newest.
local life = math.max(tonumber(ARGV[4]), redis.call('PTTL', KEYS[1]))
local held = redis.call('GET', KEYS[1])
local id, generation = string.match(held or '', '^(%x+):(%d+):')
if id and id ~= ARGV[1] then return 0 end
if id and tonumber(generation) > tonumber(ARGV[2]) then
  redis.call('PEXPIRE', KEYS[1], life)
else
  redis.call('SET', KEYS[1], ARGV[3], 'PX', string.format('%.0f', life))
end
return 1
