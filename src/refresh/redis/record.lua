-- What every step on a record shares. Before it stand the named times in ms, made by steps.rs.
--
-- KEYS: 1 the record (a hash), 2 its other refresh tokens (a sorted set: "hash:generation" by when
-- its key expires), 3 inboxes of gateways that wait (a set), 4 the shard's birth marker.
-- ARGV[1]: the session's id. All times are the server's: gateways' clocks never meet.
--
-- The record's fields: life (live, dead, ended), gen, rgen (the generation that brought the refresh
-- token), head (sealed), rot (published at), ends (the refresh token's own end), cool (until),
-- fails, c<generation> (confirmed at), and of the claim: by, phase (claimed, sent, orphaned), till,
-- about (the newest generation that its gateway knew).
local RECORD, ALIASES, WAITERS, MARKER, ID = KEYS[1], KEYS[2], KEYS[3], KEYS[4], ARGV[1]
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)

-- The record, or nil.
local function load()
  local flat = redis.call('HGETALL', RECORD)
  if #flat == 0 then return nil end
  local r = { confirmed = {} }
  for i = 1, #flat, 2 do
    local generation = string.match(flat[i], '^c(%d+)$')
    if generation then
      r.confirmed[#r.confirmed + 1] = { tonumber(generation), tonumber(flat[i + 1]) or now }
    else
      r[flat[i]] = flat[i + 1]
    end
  end
  for _, name in ipairs({ 'gen', 'rgen', 'fails' }) do r[name] = tonumber(r[name]) or 0 end
  for _, name in ipairs({ 'rot', 'ends', 'cool', 'till', 'about' }) do r[name] = tonumber(r[name]) end
  return r
end

-- What a gateway is told of a record: ages and rests, never times. -1: none.
local function stored(r)
  local confirmed = {}
  for _, c in ipairs(r.confirmed) do
    confirmed[#confirmed + 1] = c[1]
    confirmed[#confirmed + 1] = math.max(now - c[2], 0)
  end
  local cooling = r.cool and r.cool > now and r.cool - now or -1
  local rotated = r.rot and math.max(now - r.rot, 0) or -1
  local left = r.ends and math.max(r.ends - now, 0) or -1
  return { r.life, r.gen, r.rgen, r.head or '', cooling, r.fails, rotated, left, confirmed }
end

-- How long the session is remembered from now on.
local function lifetime(r)
  local left = UNTOLD
  if r.gen == 0 and r.life ~= 'live' then
    left = OVER_UNPROVEN
  elseif r.gen == 0 and r.life == 'live' then
    left = UNPROVEN
  elseif r.ends then
    left = r.ends - now
  end
  -- Neither a cool-down nor a claim is forgotten, nor that its gateway was lost.
  if r.cool then left = math.max(left, r.cool - now) end
  if r.till then left = math.max(left, r.till - now + UNPROVEN) end
  return math.max(left, SHORTEST)
end

local function prolong(r)
  local left = lifetime(r)
  redis.call('PEXPIRE', RECORD, left)
  redis.call('PEXPIRE', ALIASES, left)
  return left
end

-- Aliases whose keys would expire before the session does: the gateway prolongs them.
local function due(left)
  local most = math.max(8, math.ceil(redis.call('ZCARD', ALIASES) / 16))
  return redis.call('ZRANGEBYSCORE', ALIASES, '-inf', now + left, 'LIMIT', 0, most)
end

local function wait_for_news(inbox)
  if redis.call('SCARD', WAITERS) < WAITERS_MAX then redis.call('SADD', WAITERS, inbox) end
  redis.call('PEXPIRE', WAITERS, SHORTEST)
end

local function tell_news()
  for _, inbox in ipairs(redis.call('SMEMBERS', WAITERS)) do redis.call('PUBLISH', inbox, ID) end
  redis.call('DEL', WAITERS)
end

local function drop_claim() redis.call('HDEL', RECORD, 'by', 'phase', 'till') end

-- The refresh token of this generation was shown at this time, if not before. Of too many the
-- oldest goes if a newer one has outlived its grace; else the second, as the first keeps spent what
-- was spent long ago (as in record.rs).
local function confirm(r, generation, at)
  local name = string.format('c%.0f', generation)
  local known
  for _, c in ipairs(r.confirmed) do
    if c[1] == generation then known = c end
  end
  if known and known[2] <= at then return end
  redis.call('HSET', RECORD, name, at)
  if known then known[2] = at else r.confirmed[#r.confirmed + 1] = { generation, at } end
  table.sort(r.confirmed, function(a, b) return a[1] < b[1] end)
  while #r.confirmed > CONFIRMATIONS_MAX do
    local goes = r.confirmed[2][2] + GRACE <= now and 1 or 2
    redis.call('HDEL', RECORD, string.format('c%.0f', r.confirmed[goes][1]))
    table.remove(r.confirmed, goes)
  end
end
