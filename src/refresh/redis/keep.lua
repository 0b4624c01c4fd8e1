-- Renews a claim that has not been sent. ARGV: 2 claim
local r = load()
if not r or r.by ~= ARGV[2] then return 0 end
if r.phase == 'claimed' then
  redis.call('HSET', RECORD, 'till', now + CLAIMED_FOR)
  r.till = now + CLAIMED_FOR
  prolong(r)
end
return 1
