-- A flight ended without a new head. ARGV: 2 claim, 3 cooling (-1: none), 4 failures
local r = load()
if not r or r.by ~= ARGV[2] then return 0 end
drop_claim()
r.till = nil
if r.life == 'live' then
  local cooling = tonumber(ARGV[3])
  if cooling >= 0 then
    r.cool = now + cooling
    redis.call('HSET', RECORD, 'cool', r.cool, 'fails', ARGV[4])
  else
    redis.call('HDEL', RECORD, 'cool')
    redis.call('HSET', RECORD, 'fails', ARGV[4])
  end
end
prolong(r)
tell_news()
return 1
