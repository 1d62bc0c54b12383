# SPDX-License-Identifier: GPL-2.0-or-later
# bash completion for hvpatch(1); what there is to complete comes from hvpatch itself.

_hvpatch_files() {
	compopt -o filenames 2>/dev/null
	mapfile -t COMPREPLY < <(compgen -f -- "$1")
}

_hvpatch_words() {
	mapfile -t COMPREPLY < <(compgen -W "$1" -- "$2")
}

_hvpatch() {
	local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]}
	local program=${COMP_WORDS[0]} command='' word i
	local -a vm=() connect=()

	COMPREPLY=()
	for ((i = 1; i < COMP_CWORD; i++)); do
		word=${COMP_WORDS[i]}
		case $word in
		--qmp | --core | --pid | --domain | -d)
			vm=("$word" "${COMP_WORDS[i+1]}")
			i=$((i + 1))
			;;
		--connect | -c)
			connect=("$word" "${COMP_WORDS[i+1]}")
			i=$((i + 1))
			;;
		--agent | --oracle | --backend | --trap | --output | -o)
			i=$((i + 1))
			;;
		-*) ;;
		*)
			command=$word
			break
			;;
		esac
	done

	if [[ -z $command ]]; then
		case $previous in
		--qmp | --core | --agent | --oracle) _hvpatch_files "$current" ;;
		--domain | -d)
			_hvpatch_words "$("$program" "${connect[@]}" complete running 2>/dev/null)" \
				"$current"
			;;
		--connect | -c) _hvpatch_words 'qemu:///system qemu:///session' "$current" ;;
		--backend) _hvpatch_words 'auto any kvm gdbstub' "$current" ;;
		--trap) _hvpatch_words 'auto breakpoint spin' "$current" ;;
		--output | -o) _hvpatch_words 'table json' "$current" ;;
		--pid) _hvpatch_words "$(pgrep 'qemu|cloud-hyperviso|firecracker' 2>/dev/null)" "$current" ;;
		*)
			if [[ $current == -* ]]; then
				_hvpatch_words '--domain --connect --monitor --qmp --pid --core --agent --oracle --backend --trap --direct --output --verbose --version --help' \
					"$current"
			else
				_hvpatch_words "$("$program" complete 2>/dev/null)" "$current"
			fi
			;;
		esac
		return
	fi

	case $previous in
	--timeout | --max-pause | --pid | --workload-timeout | --rounds | --at-once | --vcpus | --memory | --since)
		return
		;;
	--kernel | --initrd | --workload | --module | --html | --qemu | --plugin)
		_hvpatch_files "$current"
		return
		;;
	--kthreads)
		_hvpatch_words 'any refuse parked parked=' "$current"
		return
		;;
	--accept)
		_hvpatch_words "$("$program" complete accept 2>/dev/null)" "$current"
		return
		;;
	esac
	if [[ $current == -* ]]; then
		_hvpatch_words "$("$program" complete "$command" 2>/dev/null)" "$current"
		return
	fi
	case $command in
	check | apply | blocking | install | rehearse) _hvpatch_files "$current" ;;
	operations) _hvpatch_words "$("$program" complete ids 2>/dev/null)" "$current" ;;
	uninstall)
		_hvpatch_words "$("$program" "${connect[@]}" "${vm[@]}" complete installed 2>/dev/null)" \
			"$current"
		;;
	revert)
		_hvpatch_words "$("$program" "${connect[@]}" "${vm[@]}" complete applied 2>/dev/null)" \
			"$current"
		;;
	esac
}

complete -F _hvpatch hvpatch
