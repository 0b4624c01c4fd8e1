-- The session is over. ARGV: 2 generation, 3 life (dead or ended), 4 channel of the news for all
local generation, life = tonumber(ARGV[2]), ARGV[3]
local r = load()
if r and r.life ~= 'ended' and life == 'dead' and r.gen > generation then return stored(r) end
if r and r.life == 'ended' then life = 'ended' end
r = r or { gen = generation, rgen = generation, fails = 0, confirmed = {} }
r.life, r.gen = life, math.max(r.gen, generation)
r.till, r.cool = nil, nil
-- Nothing secret outlives the session; its aliases do, so that old tokens are known.
redis.call('HDEL', RECORD, 'head', 'by', 'about', 'phase', 'till', 'cool')
redis.call('HSET', RECORD, 'life', life, 'gen', r.gen, 'rgen', r.rgen, 'fails', r.fails)
prolong(r)
tell_news()
redis.call('PUBLISH', ARGV[4], ID)
return nil
