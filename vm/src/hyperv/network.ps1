# Where the guest is reached: what its integration services report, and what the host's own table of
# neighbours knows of its network card.

function Get-CoracleAddress {
    param([guid] $Machine, [string] $Vm, [string] $Mac)
    $found = Get-CoracleVm -Machine $Machine -Vm $Vm
    $reported = @()
    foreach ($adapter in @(Hyper-V\Get-VMNetworkAdapter -VM $found -ErrorAction Stop)) {
        foreach ($address in @($adapter.IPAddresses)) {
            if ($null -ne $address) { $reported += "$address" }
        }
    }
    $neighbours = @()
    try {
        foreach ($neighbour in @(Get-NetNeighbor -AddressFamily IPv4 -ErrorAction Stop)) {
            if ("$($neighbour.LinkLayerAddress)".Replace('-', '') -eq $Mac) {
                $neighbours += "$($neighbour.State) $($neighbour.IPAddress)"
            }
        }
    } catch {
        # Without the table there is still what the guest reports.
        $neighbours = @()
    }
    $answer = Get-CoracleFacts -Found $found
    $answer.reported = [string[]] $reported
    $answer.neighbours = [string[]] $neighbours
    return $answer
}
