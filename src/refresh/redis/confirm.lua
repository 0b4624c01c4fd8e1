-- A browser has shown a refresh token. ARGV: 2 its generation
local r = load()
if not r or r.life ~= 'live' then return 0 end
confirm(r, tonumber(ARGV[2]), now)
prolong(r)
return 1
