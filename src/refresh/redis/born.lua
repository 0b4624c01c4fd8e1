-- Since when this server knows everything of its shard. KEYS: 1 the marker. ARGV: 1 "1" if the gateway
-- has just started, 2 the marker's life in ms.
--
-- The marker, "run:since:kind", names the server's run: it is missing after a restart without memory,
-- and another run's after a restart from disk or the promotion of a replica, which may lack the last
-- writes. A gateway that has just started cannot tell a server without a marker from an unused one: it
-- sets kind n (new), and all wait for those that can. Those set s (settles).
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)') or '-'
local held = redis.call('GET', KEYS[1])
local born_in, kind = string.match(held or '', '^([%w-]+):%d+:(%a)$')
local newcomer = ARGV[1] == '1'
if born_in == run and (newcomer or kind == 's') then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  return held
end
local marker = string.format('%s:%.0f:%s', run, now, newcomer and not held and 'n' or 's')
redis.call('SET', KEYS[1], marker, 'PX', ARGV[2])
return marker
