-- Puts a pair in the place of the one that its writer has read, and of no other.
-- KEYS: the handle's name. ARGV: how that one begins; the new pair; its life in ms.
if redis.call('GETRANGE', KEYS[1], 0, #ARGV[1] - 1) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
