-- A new head. ARGV: 2 generation, 3 refresh generation, 4 sealed head, 5 what is left of the refresh
-- token's life (-1: not told), 6 number of confirmations, then each's generation and age, then its
-- aliases ("hash:generation") whose keys were just written
local generation, refresh_generation = tonumber(ARGV[2]), tonumber(ARGV[3])
local r = load()
-- Dead at the same generation is an answer to that very refresh token: only a newer one overrules it.
if r and (r.life == 'ended' or r.gen > generation or (r.life == 'dead' and r.gen == generation)) then
  return { stored(r), 0, {} }
end
-- The same generation again (after the store lost its memory) changes no claim and no cool-down: they
-- are about this very head.
local again = r and r.gen == generation
if not again then
  redis.call('HDEL', RECORD, 'by', 'about', 'phase', 'till', 'cool')
  redis.call('HSET', RECORD, 'fails', 0, 'rot', now)
  r = { confirmed = r and r.confirmed or {} }
end
r.life, r.gen = 'live', generation
redis.call('HSET', RECORD, 'life', 'live', 'gen', ARGV[2], 'rgen', ARGV[3], 'head', ARGV[4])
local left = tonumber(ARGV[5])
if left >= 0 then
  r.ends = now + left
  redis.call('HSET', RECORD, 'ends', r.ends)
else
  r.ends = nil
  redis.call('HDEL', RECORD, 'ends')
end
local at = 7
for _ = 1, tonumber(ARGV[6]) do
  confirm(r, tonumber(ARGV[at]), now - tonumber(ARGV[at + 1]))
  at = at + 2
end

local life = lifetime(r)
for i = at, #ARGV do redis.call('ZADD', ALIASES, now + life + UNTOLD, ARGV[i]) end
-- Over the bound the oldest go; their keys live on until they expire by themselves.
local over = redis.call('ZCARD', ALIASES) - ALIASES_MAX
if over > 0 then
  local all = redis.call('ZRANGE', ALIASES, 0, -1)
  local function age(alias) return tonumber(string.match(alias, ':(%d+)$')) or 0 end
  table.sort(all, function(a, b) return age(a) < age(b) end)
  for i = 1, over do redis.call('ZREM', ALIASES, all[i]) end
end
prolong(r)
tell_news()
return { false, life, due(life) }
