# Read by every interactive bash.
[ -z "${PS1-}" ] && return
shopt -s checkwinsize
PS1='\u@\h:\w\$ '
alias k=kubectl ls='ls --color=auto' ll='ls -l'
