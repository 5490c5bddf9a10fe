# Disks: made thin and grown.

# Blocks of 1 MiB, as Microsoft advises for Linux guests: ext4 writes all over a disk, and each block
# touched takes its whole size on the host.
function New-CoracleDisk {
    param([string] $Path, [long] $Bytes)
    Hyper-V\New-VHD -Path $Path -Dynamic -SizeBytes $Bytes -BlockSizeBytes 1048576 -ErrorAction Stop | Out-Null
    return @{ made = $true }
}

# Makes a disk larger, also while the machine runs. Never smaller.
function Resize-CoracleDisk {
    param([guid] $Machine, [string] $Vm, [string] $Path, [long] $Bytes)
    $found = Select-CoracleMachine -Machine $Machine -Vm $Vm
    if ($null -ne $found -and @(Hyper-V\Get-VMSnapshot -VM $found -ErrorAction Stop).Count -gt 0) {
        Stop-Coracle -Id 'CoracleCheckpoints' -Message 'the machine has checkpoints'
    }
    $disk = Hyper-V\Get-VHD -Path $Path -ErrorAction Stop
    $small = [long] $disk.Size -lt $Bytes
    if ($small) {
        Hyper-V\Resize-VHD -Path $Path -SizeBytes $Bytes -ErrorAction Stop | Out-Null
    }
    return @{ grown = [bool] $small }
}
