-- Keys of these aliases live longer by now. ARGV: 2 how long, then the aliases
for i = 3, #ARGV do redis.call('ZADD', ALIASES, 'XX', now + tonumber(ARGV[2]), ARGV[i]) end
return 1
