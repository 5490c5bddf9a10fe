# One virtual machine: found, made to the specification, started, stopped, forgotten.

function Find-CoracleMachine {
    param([guid] $Machine, [string] $Vm, [string] $Name)
    $answer = @{ found = $false }
    $found = Select-CoracleMachine -Machine $Machine -Vm $Vm
    if ($null -ne $found) {
        $answer = Get-CoracleFacts -Found $found
        $answer.found = $true
    }
    if ($Name -ne '') {
        $others = @()
        foreach ($candidate in @(Hyper-V\Get-VM -ErrorAction Stop)) {
            # Not with -like or -Name, which would take the name for a pattern.
            if ("$($candidate.Name)" -eq $Name -and -not (Test-CoracleMark -Candidate $candidate -Machine $Machine)) {
                $others += "$($candidate.Id)"
            }
        }
        $answer.others = [string[]] $others
    }
    return $answer
}

# Makes the virtual machine, or changes the one that is there, which is off.
function Set-CoracleMachine {
    param(
        [guid] $Machine,
        [string] $Vm,
        [string] $Name,
        [string] $Folder,
        [int] $Processors,
        [long] $Memory,
        [string[]] $Disks,
        [string[]] $Dvds,
        [string] $Switch,
        [string] $Mac,
        [string] $Pipe
    )
    $network = Get-CoracleSwitch -Switch $Switch
    if ($null -eq $network) {
        Stop-Coracle -Id 'CoracleNoSwitch' -Message 'there is no such virtual switch'
    }
    $found = Select-CoracleMachine -Machine $Machine -Vm $Vm
    if ($null -eq $found) {
        # Until it has its mark it has a name that nobody else gives: whatever cuts this off, it is
        # found again.
        $found = Hyper-V\New-VM -Name "coracle-new-$Machine" -Generation 2 -MemoryStartupBytes $Memory -NoVHD -Path $Folder -ErrorAction Stop
    }
    if ("$($found.State)" -like '*Saved') {
        Hyper-V\Remove-VMSavedState -VM $found -ErrorAction Stop | Out-Null
    }
    if ("$($found.Name)" -ceq "coracle-new-$Machine") {
        Hyper-V\Set-VM -VM $found -Notes "coracle-machine $Machine $Folder" -ErrorAction Stop | Out-Null
        Hyper-V\Rename-VM -VM $found -NewName $Name -ErrorAction Stop | Out-Null
    }
    if (@(Hyper-V\Get-VMSnapshot -VM $found -ErrorAction Stop).Count -gt 0) {
        Stop-Coracle -Id 'CoracleCheckpoints' -Message 'the machine has checkpoints'
    }
    $settings = @{
        VM                   = $found
        ProcessorCount       = $Processors
        StaticMemory         = $true
        MemoryStartupBytes   = $Memory
        AutomaticStartAction = 'Nothing'
        AutomaticStopAction  = 'ShutDown'
        CheckpointType       = 'Disabled'
    }
    # Windows Server 2016 has no automatic checkpoints.
    if ((Get-Command -Name 'Hyper-V\Set-VM').Parameters.ContainsKey('AutomaticCheckpointsEnabled')) {
        $settings.AutomaticCheckpointsEnabled = $false
    }
    Hyper-V\Set-VM @settings -ErrorAction Stop | Out-Null
    Set-CoracleNetwork -Found $found -Network $network -Mac $Mac
    Hyper-V\Set-VMComPort -VM $found -Number 1 -Path $Pipe -ErrorAction Stop | Out-Null
    Set-CoracleDisks -Found $found -Disks $Disks -Dvds $Dvds
    return Get-CoracleFacts -Found $found
}

# Disks and DVDs are taken out and put in again: that is when Hyper-V lets the machine's own account
# read the files, which may be others than at the last start.
function Set-CoracleDisks {
    param($Found, [string[]] $Disks, [string[]] $Dvds)
    Hyper-V\Get-VMDvdDrive -VM $Found -ErrorAction Stop | Hyper-V\Remove-VMDvdDrive -ErrorAction Stop | Out-Null
    Hyper-V\Get-VMHardDiskDrive -VM $Found -ErrorAction Stop | Hyper-V\Remove-VMHardDiskDrive -ErrorAction Stop | Out-Null
    foreach ($path in @($Dvds)) {
        Hyper-V\Add-VMDvdDrive -VM $Found -Path $path -ErrorAction Stop | Out-Null
    }
    foreach ($path in @($Disks)) {
        Hyper-V\Add-VMHardDiskDrive -VM $Found -ControllerType SCSI -Path $path -ErrorAction Stop | Out-Null
    }
    $order = @(Hyper-V\Get-VMDvdDrive -VM $Found -ErrorAction Stop) + @(Hyper-V\Get-VMHardDiskDrive -VM $Found -ErrorAction Stop)
    # The image's boot loader is not signed with a key that Secure Boot knows.
    Hyper-V\Set-VMFirmware -VM $Found -EnableSecureBoot Off -BootOrder $order -ErrorAction Stop | Out-Null
}

function Set-CoracleNetwork {
    param($Found, $Network, [string] $Mac)
    $adapters = @(Hyper-V\Get-VMNetworkAdapter -VM $Found -ErrorAction Stop)
    if ($adapters.Count -eq 0) {
        $adapters = @(Hyper-V\Add-VMNetworkAdapter -VM $Found -Passthru -ErrorAction Stop)
    }
    $adapter = $adapters[0]
    Hyper-V\Set-VMNetworkAdapter -VMNetworkAdapter $adapter -StaticMacAddress $Mac -ErrorAction Stop | Out-Null
    Hyper-V\Connect-VMNetworkAdapter -VMNetworkAdapter $adapter -VMSwitch $Network -ErrorAction Stop | Out-Null
}

# Starts a machine: from 'boot', whatever Hyper-V keeps of it is thrown away; from 'held', it goes on
# from that, and without it nothing is started.
function Start-CoracleMachine {
    param([guid] $Machine, [string] $Vm, [string] $From)
    $found = Get-CoracleVm -Machine $Machine -Vm $Vm
    $held = "$($found.State)" -like '*Saved'
    if ($From -ceq 'held' -and -not $held) {
        Stop-Coracle -Id 'CoracleNothingHeld' -Message 'Hyper-V keeps no saved state of the machine'
    }
    if ($From -ceq 'boot' -and $held) {
        Hyper-V\Remove-VMSavedState -VM $found -ErrorAction Stop | Out-Null
    }
    Hyper-V\Start-VM -VM $found -ErrorAction Stop | Out-Null
    return Get-CoracleFacts -Found (Get-CoracleVm -Machine $Machine -Vm "$($found.Id)")
}

function Suspend-CoracleMachine {
    param([guid] $Machine, [string] $Vm)
    $found = Get-CoracleVm -Machine $Machine -Vm $Vm
    Hyper-V\Suspend-VM -VM $found -ErrorAction Stop | Out-Null
    return Get-CoracleFacts -Found (Get-CoracleVm -Machine $Machine -Vm "$($found.Id)")
}

function Resume-CoracleMachine {
    param([guid] $Machine, [string] $Vm)
    $found = Get-CoracleVm -Machine $Machine -Vm $Vm
    Hyper-V\Resume-VM -VM $found -ErrorAction Stop | Out-Null
    return Get-CoracleFacts -Found (Get-CoracleVm -Machine $Machine -Vm "$($found.Id)")
}

function Save-CoracleMachine {
    param([guid] $Machine, [string] $Vm)
    $found = Get-CoracleVm -Machine $Machine -Vm $Vm
    Hyper-V\Save-VM -VM $found -ErrorAction Stop | Out-Null
    return Get-CoracleFacts -Found (Get-CoracleVm -Machine $Machine -Vm "$($found.Id)")
}

# Asks the guest to shut down, and does not wait until it has. A guest that cannot be asked is an error
# that comes at once.
function Request-CoracleShutdown {
    param([guid] $Machine, [string] $Vm)
    $found = Get-CoracleVm -Machine $Machine -Vm $Vm
    $job = Hyper-V\Stop-VM -VM $found -AsJob -ErrorAction Stop
    $done = Wait-Job -Job $job -Timeout 2
    if ($null -ne $done -and "$($done.State)" -eq 'Failed') {
        Receive-Job -Job $done -ErrorAction Stop | Out-Null
    }
    return @{ asked = $true }
}

function Stop-CoracleMachine {
    param([guid] $Machine, [string] $Vm)
    $found = Get-CoracleVm -Machine $Machine -Vm $Vm
    Hyper-V\Stop-VM -VM $found -TurnOff -Force -ErrorAction Stop | Out-Null
    return Get-CoracleFacts -Found (Get-CoracleVm -Machine $Machine -Vm "$($found.Id)")
}

# Disks stay: Remove-VM leaves them.
function Remove-CoracleMachine {
    param([guid] $Machine, [string] $Vm)
    $found = Select-CoracleMachine -Machine $Machine -Vm $Vm
    if ($null -ne $found) {
        Hyper-V\Remove-VM -VM $found -Force -ErrorAction Stop | Out-Null
    }
    return @{ removed = [bool] ($null -ne $found) }
}
