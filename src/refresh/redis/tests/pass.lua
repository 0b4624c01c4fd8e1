-- For tests: time passes for every key of this server. ARGV: 1 how much, in ms
for _, key in ipairs(redis.call('KEYS', 'evergate:*')) do
  local kind = redis.call('TYPE', key).ok
  if kind == 'hash' then
    local flat = redis.call('HGETALL', key)
    for i = 1, #flat, 2 do
      local name = flat[i]
      if string.match(name, '^c%d+$') or ({ till = 1, cool = 1, rot = 1, ends = 1 })[name] then
        redis.call('HINCRBY', key, name, -ARGV[1])
      end
    end
  elseif kind == 'zset' then
    for _, member in ipairs(redis.call('ZRANGE', key, 0, -1)) do
      redis.call('ZINCRBY', key, -ARGV[1], member)
    end
  elseif string.match(key, ':born$') then
    local run, since, kind = string.match(redis.call('GET', key), '^(%w+):(%d+):(%a)$')
    since = math.max(0, tonumber(since) - ARGV[1])
    redis.call('SET', key, string.format('%s:%.0f:%s', run, since, kind), 'KEEPTTL')
  end
  local left = redis.call('PTTL', key)
  assert(left > 0, key .. ' has no life')
  if string.match(key, ':born$') then left = left + ARGV[1] end
  redis.call('PEXPIRE', key, left - ARGV[1])
end
