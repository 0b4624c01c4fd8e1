-- Forgets a handle; with an argument only if what it holds still begins so.
-- KEYS: the handle's name. ARGV: how the pair begins that was read, or nothing.
if ARGV[1] ~= '' and redis.call('GETRANGE', KEYS[1], 0, #ARGV[1] - 1) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
