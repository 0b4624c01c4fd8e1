-- Asks for leave to show the head's refresh token to the backend.
-- ARGV: 2 newest generation the gateway knows, 3 claim, 4 take over from the lost too, 5 settle, 6 inbox
local known, claim, lost_too, settle = tonumber(ARGV[2]), ARGV[3], ARGV[4] == '1', tonumber(ARGV[5])

local function granted(r)
  redis.call('HSET', RECORD, 'by', claim, 'phase', 'claimed', 'till', now + CLAIMED_FOR, 'about', known)
  r.till = now + CLAIMED_FOR
  prolong(r)
  return { 'ours', 0, false }
end

local function taken(left)
  wait_for_news(ARGV[6])
  return { 'taken', left, false }
end

-- How long until no flight that this server may have forgotten can still get an answer.
local function settling()
  local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)') or '-'
  local marker = redis.call('GET', MARKER) or ''
  local born_in, since, kind = string.match(marker, '^([%w-]+):(%d+):(%a)$')
  if born_in ~= run then
    -- No marker: it was restarted empty. Another run's: it was restarted from disk or is a promoted
    -- replica, and the last it knew before may be lost.
    since, kind = now, 's'
    redis.call('SET', MARKER, string.format('%s:%.0f:s', run, now), 'PX', MARKER_LIFE)
  end
  local takes = settle + SENT_SLACK
  -- Unused, unless somebody who ran before says otherwise.
  if kind == 'n' then takes = math.min(takes, NOTICED_AFTER) end
  return tonumber(since) + takes - now
end

local r = load()
if r then
  local newer = r.life == 'ended' or r.gen > known or (r.life == 'dead' and r.gen == known)
  if newer or (r.cool and r.cool > now) then
    return { 'moved', 0, stored(r) }
  end
  if r.by and r.till then
    if r.till > now then
      if r.by ~= claim then return taken(r.till - now) end
      if r.phase == 'claimed' then return granted(r) end
      return { 'ours', 0, false }
    elseif known > (r.about or known) then
      -- Whatever became of that flight, it asked with an older refresh token.
    elseif r.phase == 'sent' then
      -- Its gateway may only be slow: it gets a while to publish what it was told.
      redis.call('HSET', RECORD, 'phase', 'orphaned', 'till', now + LOST_AFTER)
      r.till = now + LOST_AFTER
      prolong(r)
      return taken(LOST_AFTER)
    elseif r.phase == 'orphaned' and not lost_too then
      return { 'lost', 0, false }
    end
  end
end

local left = settling()
if left > 0 then
  wait_for_news(ARGV[6])
  return { 'settling', left, false }
end
if not r then
  -- The store notes what it holds, not what this gateway says it knows.
  r = { life = 'live', gen = 0, rgen = 0, fails = 0, confirmed = {} }
  redis.call('HSET', RECORD, 'life', 'live', 'gen', 0, 'rgen', 0, 'fails', 0)
  confirm(r, 0, now)
end
return granted(r)
