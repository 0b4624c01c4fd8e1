-- Since when this server knows everything of its shard. KEYS: 1 the marker. ARGV: 1 "1" if nobody ran
-- before (a marker that is missing then means nothing), 2 the marker's life in ms.
--
-- The marker names the server's run: it is missing after a restart without memory, and another
-- run's after a restart from disk or the promotion of a replica, which may lack the last writes.
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)') or '-'
local held = redis.call('GET', KEYS[1])
if held and string.match(held, '^([%w-]+):%d+$') == run then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  return held
end
local since = (held or ARGV[1] ~= '1') and now or 0
local marker = string.format('%s:%.0f', run, since)
redis.call('SET', KEYS[1], marker, 'PX', ARGV[2])
return marker
