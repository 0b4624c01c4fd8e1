-- The backend is about to be asked. Refused after the claim lapsed, even if nobody else took it: this
-- question may have lain in a frozen server, while its gateway gave up. ARGV: 2 claim, 3 settle
local r = load()
if not r or r.by ~= ARGV[2] or not r.till or r.till <= now then return 0 end
if r.phase ~= 'claimed' and r.phase ~= 'sent' then return 0 end
r.till = now + tonumber(ARGV[3]) + SENT_SLACK
redis.call('HSET', RECORD, 'phase', 'sent', 'till', r.till)
prolong(r)
return 1
