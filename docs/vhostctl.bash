# Completion of vhostctl for bash. Printed by `vhostctl completion bash`: either
#	source <(vhostctl completion bash)
# in ~/.bashrc, or this file in /usr/share/bash-completion/completions.
_vhostctl()
{
	local IFS=$'\n' line=${COMP_LINE:0:COMP_POINT} word
	COMPREPLY=()
	for word in $("${COMP_WORDS[0]}" complete -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null); do
		if [[ $word == '<files>' ]]; then
			compopt -o filenames 2>/dev/null
			COMPREPLY+=($(compgen -f -- "${COMP_WORDS[COMP_CWORD]}"))
		else
			COMPREPLY+=("$(printf '%q' "$word")")
		fi
	done
}
complete -F _vhostctl vhostctl
