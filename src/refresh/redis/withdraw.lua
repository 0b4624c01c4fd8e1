-- A flight gives its claim back, and forgets a session that only this claim had made. ARGV: 2 claim
local r = load()
if not r or r.by ~= ARGV[2] then return 0 end
if r.gen == 0 and r.life == 'live' then
  redis.call('DEL', RECORD, ALIASES)
else
  drop_claim()
  r.till = nil
  prolong(r)
end
tell_news()
return 1
